# SPDX-License-Identifier: Apache-2.0
"""Datasets, batches, loading processes, readers and transforms."""

import gc
import gzip
import io
import multiprocessing
import os
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvtrain as mx
from kvtrain import gluon, nd
from kvtrain.errors import ConfigError, DeadlineExceeded, FormatError, KVTrainError, OperatorError
from kvtrain.gluon.data import batchify, vision
from kvtrain.gluon.data.vision import transforms

REFERENCE = dict(np.load(Path(__file__).resolve().parents[1] / "reference" / "images.npz"))


def double(x: Any) -> Any:
    return x * 2


class Faulty(gluon.data.Dataset):
    """Sample 5 does what `how` says."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __len__(self) -> int:
        return 8

    def __getitem__(self, idx: int) -> Any:
        if idx == 5:
            if self.how == "raise":
                raise LookupError("sample 5 is bad")
            if self.how == "die":
                os._exit(7)
            if self.how == "hang":
                multiprocessing.Event().wait()
        return np.float32(idx), os.getpid(), np.random.rand()


def test_lazy_datasets() -> None:
    seen: list[int] = []

    def keep(x: int) -> bool:
        seen.append(x)
        return x % 2 == 0

    data = gluon.data.SimpleDataset(list(range(10)))
    even = data.filter(keep)
    assert (len(even), even[2], seen) == (5, 4, list(range(10)))
    assert [list(data.shard(4, i)) for i in range(4)] == [[0, 1, 2], [3, 4, 5], [6, 7], [8, 9]]
    assert list(data.take(3)) == [0, 1, 2]
    assert len(data.take(None)) == len(data.take(99)) == 10
    assert list(data.sample(gluon.data.IntervalSampler(10, 5)))[:3] == [0, 5, 1]
    calls: list[int] = []
    lazy = data.transform(lambda x: calls.append(x) or x * 2)
    assert not calls
    assert (lazy[3], calls) == (6, [3])
    assert data.transform(double, lazy=False)[4] == 8
    pairs = gluon.data.ArrayDataset(np.arange(3), nd.array([5, 6, 7])).transform_first(double)
    assert pickle.loads(pickle.dumps(pairs))[1] == (2, 6)
    with pytest.raises(ValueError, match="index=4"):
        data.shard(4, 4)


def test_batchify() -> None:
    ragged = [(np.ones((2,)), 1), (np.ones((3,)) * 2, 2)]
    x, y = batchify.Group(batchify.Pad(val=-1, dtype="float32"), batchify.Stack())(ragged)
    assert x.asnumpy().tolist() == [[1, 1, -1], [2, 2, 2]]
    assert (y.asnumpy().tolist(), x.dtype) == ([1, 2], np.float32)
    assert batchify.Pad(round_to=4)([np.ones(3), np.ones(1)]).shape == (2, 4)
    assert [a.shape for a in batchify.Append()([np.ones(2), np.ones(3)])] == [(1, 2), (1, 3)]
    with pytest.raises(ValueError, match="2 functions for samples of 3"):
        batchify.Group(batchify.Stack(), batchify.Stack())([(1, 2, 3)])


def loader(dataset: Any, workers: int = 2, **options: Any) -> gluon.data.DataLoader:
    return gluon.data.DataLoader(dataset, 2, num_workers=workers, **options)


def assert_no_process_is_left() -> None:
    gc.collect()
    assert not multiprocessing.active_children()


def test_processes_load_the_same_batches() -> None:
    x = nd.array(np.random.RandomState(0).rand(7, 200, 100))  # large: through shared memory
    dataset = gluon.data.ArrayDataset(x, np.arange(7)).transform_first(double)
    expected = list(gluon.data.DataLoader(dataset, 2))
    many = loader(dataset, last_batch="keep")
    for _ in range(2):  # the processes serve both passes
        batches = list(many)
        assert len(batches) == len(expected) == 4
        for got, wanted in zip(batches, expected, strict=True):
            assert [a.dtype for a in got] == [a.dtype for a in wanted]
            for a, b in zip(got, wanted, strict=True):
                np.testing.assert_array_equal(a.asnumpy(), b.asnumpy())
    batches[0][0][:] = 3  # the caller's own memory
    assert batches[0][0].asnumpy().min() == 3
    first, second = iter(many), iter(many)
    assert next(first)[1].asnumpy().tolist() == next(second)[1].asnumpy().tolist() == [0, 1]
    first.close()
    assert [b[1].asnumpy().tolist() for b in second] == [[2, 3], [4, 5], [6]]
    del many, second, first
    assert_no_process_is_left()


def test_loading_processes_are_others_and_seeded() -> None:
    seen = []
    for _ in range(2):
        np.random.seed(3)
        many = loader(Faulty("work"), 1)
        batches = list(many)
        seen.append([b[2].asnumpy().tolist() for b in batches])
        assert os.getpid() not in {p for b in batches for p in b[1].asnumpy().tolist()}
    assert seen[0] == seen[1]
    assert len({v for batch in seen[0] for v in batch}) == 8
    del many
    assert_no_process_is_left()


FAULTS = {
    "raise": (LookupError, "sample 5 is bad"),
    "die": (KVTrainError, r"loading process \d died \(exit code 7\)"),
    "hang": (DeadlineExceeded, "no batch for 1 s"),
}


@pytest.mark.parametrize("how", FAULTS)
def test_a_faulty_dataset_is_named(how: str) -> None:
    kind, text = FAULTS[how]
    # time for the processes to start, except where the wait is what is tested
    many = loader(Faulty(how), 1, timeout=60)
    batches = iter(many)
    assert next(batches)[0].asnumpy().tolist() == [0, 1]
    assert next(batches)[0].asnumpy().tolist() == [2, 3]
    many._timeout = 1 if how == "hang" else 60
    with pytest.raises(kind, match=text):
        next(batches)
    del batches, many
    assert_no_process_is_left()


def test_what_cannot_be_sent_is_loaded_by_threads() -> None:
    many = loader(gluon.data.SimpleDataset([1, 2, 3]).transform(lambda x: x + 1))
    with pytest.warns(UserWarning, match="cannot be sent to 2 processes"):
        batches = list(many)
    assert [b.asnumpy().tolist() for b in batches] == [[2, 3], [4]]
    assert not multiprocessing.active_children()


SCRIPT = """
import numpy as np
import kvtrain as mx

class Own(mx.gluon.data.Dataset):
    def __len__(self): return 4
    def __getitem__(self, i): return np.float32(i * i)

def main():
    loader = mx.gluon.data.DataLoader(Own(), 2, num_workers=1)
    print([b.asnumpy().tolist() for b in loader])
"""


@pytest.mark.parametrize("guarded", [True, False])
def test_classes_of_a_script(tmp_path: Path, guarded: bool) -> None:
    path = tmp_path / "script.py"
    end = 'if __name__ == "__main__":\n    main()\n' if guarded else "main()\n"
    path.write_text(SCRIPT + end)
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[[0.0, 1.0], [4.0, 9.0]]\n", done.stderr
    assert ("threads load instead" in done.stderr) is not guarded


def idx(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return head + array.astype("u1").tobytes()


def test_mnist_from_files(tmp_path: Path) -> None:
    images = np.random.RandomState(0).randint(0, 256, (5, 28, 28))
    for part in ("train", "t10k"):
        data, labels = idx(images), idx(np.arange(5))
        if part == "train":
            (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(data))
            (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
        else:
            (tmp_path / "t10k-images-idx3-ubyte").write_bytes(data)
            (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(labels)
    for train in (True, False):
        dataset = vision.MNIST(tmp_path, train=train)
        image, label = dataset[3]
        assert (image.shape, image.dtype, label, label.dtype) == ((28, 28, 1), np.uint8, 3, "int32")
        np.testing.assert_array_equal(image.asnumpy()[..., 0], images[3])
    bare = vision.FashionMNIST(tmp_path, transform=lambda x, y: (x.astype("float32") / 255, y))
    assert bare[0][0].dtype == np.float32
    batch = next(iter(gluon.data.DataLoader(dataset.transform_first(transforms.ToTensor()), 5)))
    assert (batch[0].shape, batch[1].dtype) == ((5, 1, 28, 28), np.int32)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(data[:-1])
    with pytest.raises(FormatError, match="do not hold an array of shape"):
        vision.MNIST(tmp_path, train=False)
    with pytest.raises(FileNotFoundError, match="Nothing is downloaded"):
        vision.MNIST(tmp_path / "none")


def test_cifar_from_files(tmp_path: Path) -> None:
    rng = np.random.RandomState(1)
    rows = rng.randint(0, 256, (4, 2 + 3072)).astype("u1")
    with tarfile.open(tmp_path / "cifar-100-binary.tar.gz", "w:gz") as archive:
        for name in ("train.bin", "test.bin"):
            info = tarfile.TarInfo(f"cifar-100-binary/{name}")
            info.size = rows.nbytes
            archive.addfile(info, io.BytesIO(rows.tobytes()))
    for fine in (False, True):
        dataset = vision.CIFAR100(tmp_path, fine_label=fine, train=False)
        image, label = dataset[2]
        assert (image.shape, label) == ((32, 32, 3), rows[2, int(fine)])
        np.testing.assert_array_equal(
            image.asnumpy(), rows[2, 2:].reshape(3, 32, 32).transpose(1, 2, 0)
        )
    for i in range(1, 6):
        (tmp_path / f"data_batch_{i}.bin").write_bytes(rows[:, 1:].tobytes())
    assert len(vision.CIFAR10(tmp_path)) == 20
    (tmp_path / "data_batch_3.bin").write_bytes(b"abc")
    with pytest.raises(FormatError, match="data_batch_3"):
        vision.CIFAR10(tmp_path)


def test_image_folder(tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    raw = np.random.RandomState(0).randint(0, 256, (6, 5, 3)).astype("u1")
    for name in ("bus", "car"):
        (tmp_path / name).mkdir()
        pillow.fromarray(raw).save(tmp_path / name / "1.png")
    np.save(tmp_path / "car" / "2.npy", raw)
    (tmp_path / "car" / "notes.txt").write_text("no image")
    with pytest.warns(UserWarning, match=r"Ignoring .*notes.txt"):
        dataset = vision.ImageFolderDataset(tmp_path)
    assert (dataset.synsets, len(dataset)) == (["bus", "car"], 3)
    for i, label in enumerate([0, 1, 1]):
        image, got = dataset[i]
        assert got == label
        np.testing.assert_array_equal(image.asnumpy(), raw)
    (tmp_path / "bus" / "1.png").write_bytes(b"no image")
    with pytest.raises(FormatError, match=r"1\.png"):
        dataset[0]
    assert mx.image.imdecode((tmp_path / "car" / "1.png").read_bytes(), flag=0).shape == (6, 5, 1)


def test_records_of_images(tmp_path: Path) -> None:
    rng = np.random.RandomState(0)
    raws = [rng.randint(0, 256, (5, 4, 3)).astype("u1") for _ in range(3)]
    name = str(tmp_path / "data.rec")
    writer = mx.recordio.MXIndexedRecordIO(str(tmp_path / "data.idx"), name, "w")
    for i, raw in enumerate(raws):
        header = mx.recordio.IRHeader(0, float(i + 4), i, 0)
        writer.write_idx(i, mx.recordio.pack_img(header, raw[:, :, ::-1], img_fmt=".png"))
    writer.close()
    assert len(gluon.data.RecordFileDataset(name)) == 3
    dataset = vision.ImageRecordDataset(name)
    for many in (loader(dataset, 0), loader(dataset, 1)):
        images, labels = zip(*many, strict=True)
        assert np.concatenate([y.asnumpy() for y in labels]).tolist() == [4, 5, 6]
        np.testing.assert_array_equal(np.concatenate([x.asnumpy() for x in images]), raws)


@pytest.mark.parametrize("name", [n for n in REFERENCE if n.startswith("resize")])
def test_resize_is_mxnets(name: str) -> None:
    interp, w, h = map(int, name.split("_")[1:])
    image = nd.array(REFERENCE["image"], dtype="uint8")
    got = mx.image.imresize(image, w, h, interp).asnumpy().astype(int)
    wrong = np.abs(got - REFERENCE[name])
    # OpenCV rounds in steps of its own: a few values differ by one
    assert wrong.max() <= 1
    assert (wrong > 0).mean() < 0.15


@pytest.mark.parametrize("name", [n for n in REFERENCE if n.startswith("rotate")])
def test_rotate_is_mxnets(name: str) -> None:
    angle, zoom_in, zoom_out = map(int, name.split("_")[1:])
    rotate = transforms.Rotate(angle, bool(zoom_in), bool(zoom_out))
    got = rotate(nd.array(REFERENCE["floats"])).asnumpy()
    np.testing.assert_allclose(got, REFERENCE[name], atol=2e-6)


def test_other_transforms_are_mxnets() -> None:
    image = nd.array(REFERENCE["image"], dtype="uint8")
    chain = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))]
    )
    np.testing.assert_array_equal(transforms.ToTensor()(image).asnumpy(), REFERENCE["tensor"])
    np.testing.assert_allclose(chain(image).asnumpy(), REFERENCE["normal"], rtol=1e-6)
    np.testing.assert_array_equal(
        transforms.CenterCrop((4, 3))(image).asnumpy(), REFERENCE["centre"]
    )
    np.testing.assert_array_equal(
        transforms.CropResize(2, 1, 4, 3)(image).asnumpy(), REFERENCE["crop"]
    )
    assert transforms.Resize(4, keep_ratio=True)(image).shape == tuple(REFERENCE["ratio"])


GREY = nd.array(np.full((4, 4, 3), 100), dtype="uint8")
RANDOM = {
    "brightness": (lambda: transforms.RandomBrightness(0.5), 50, 150),
    "contrast": (lambda: transforms.RandomContrast(0.5), 100, 100),
    "saturation": (lambda: transforms.RandomSaturation(0.5), 99, 100),
    "hue": (lambda: transforms.RandomHue(0.3), 98, 102),
    "jitter": (lambda: transforms.RandomColorJitter(0.2, 0.2, 0.2, 0.2), 78, 122),
    "lighting": (lambda: transforms.RandomLighting(0.01), 96, 104),
    "crop": (lambda: transforms.RandomResizedCrop(4), 100, 100),
    "padded": (lambda: transforms.RandomCrop(4, pad=1), 0, 100),
}


@pytest.mark.parametrize("name", RANDOM)
def test_random_transforms_stay_in_range(name: str) -> None:
    make, low, high = RANDOM[name]
    for _ in range(20):
        out = make()(GREY)
        assert (out.shape, out.dtype) == ((4, 4, 3), np.uint8)
        assert low <= out.asnumpy().min() <= out.asnumpy().max() <= high


def test_flips_happen_half_of_the_time() -> None:
    image = nd.array(np.arange(12).reshape(2, 2, 3))
    for flip, axis in (
        (transforms.RandomFlipLeftRight(), 1),
        (transforms.RandomFlipTopBottom(), 0),
    ):
        turned = np.flip(image.asnumpy(), axis)
        outs = [flip(image).asnumpy() for _ in range(60)]
        count = sum(np.array_equal(o, turned) for o in outs)
        assert 10 < count < 50
        assert count + sum(np.array_equal(o, image.asnumpy()) for o in outs) == 60


def test_misuse_of_transforms() -> None:
    with pytest.raises(ConfigError, match="does not fit shape"):
        transforms.Normalize((1, 2), 1)(nd.ones((3, 2, 2)))
    with pytest.raises(ConfigError, match="x=3, y=0"):
        transforms.CropResize(3, 0, 2, 2)(GREY)
    with pytest.raises(OperatorError, match="interpolation=7"):
        transforms.Resize(2, interpolation=7)(GREY)
    with pytest.raises(OperatorError, match="float32"):
        transforms.Rotate(10)(GREY)
