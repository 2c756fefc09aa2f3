# SPDX-License-Identifier: Apache-2.0
"""Image datasets from local files."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kvtrain import image, recordio
from kvtrain.context import cpu
from kvtrain.errors import FormatError
from kvtrain.gluon.data.dataset import Dataset, RecordFileDataset
from kvtrain.gluon.data.vision import readers
from kvtrain.ndarray import NDArray

Transform = Callable[..., Any]
EXTENSIONS = (".jpg", ".jpeg", ".png", ".npy")


class _Local(Dataset):
    """Images in memory: sample i is ``(NDArray (h, w, c) of uint8, label of int32)``."""

    def __init__(self, root: Any, transform: Transform | None) -> None:
        self._transform = transform
        self._root = Path(root).expanduser()
        self._data, self._label = self._read()

    def _read(self) -> tuple[NDArray, Any]:
        raise NotImplementedError

    def __getitem__(self, idx: Any) -> Any:
        if self._transform is not None:
            return self._transform(self._data[idx], self._label[idx])
        return self._data[idx], self._label[idx]

    def __len__(self) -> int:
        return len(self._label)


class MNIST(_Local):
    """Handwritten digits: 60,000 images for training, 10,000 for tests, (28, 28, 1).

    Parameters
    ----------
    root : path
        Folder with the four IDX files, gzipped or not; nothing is downloaded.
    train : bool
    transform : callable, optional
        ``transform(data, label)`` of each sample.
    """

    _name = "MNIST"

    def __init__(
        self,
        root: Any = "~/.mxnet/datasets/mnist",
        train: bool = True,
        transform: Transform | None = None,
    ) -> None:
        self._train = train
        super().__init__(root, transform)

    def _read(self) -> tuple[NDArray, Any]:
        part = "train" if self._train else "t10k"
        found = []
        for name in (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"):
            path = readers.find(
                self._root, (name + ".gz", name), self._name, "the four IDX files of its authors"
            )
            found.append(readers.read_idx(path))
        images, labels = found
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise FormatError(
                f"{self._root}: images {images.shape} and labels {labels.shape} do not fit"
            )
        return NDArray(images[..., None], cpu()), labels.astype(np.int32)


class FashionMNIST(MNIST):
    """Pictures of clothes in MNIST's format; parameters: see :class:`MNIST`."""

    _name = "FashionMNIST"

    def __init__(
        self,
        root: Any = "~/.mxnet/datasets/fashion-mnist",
        train: bool = True,
        transform: Transform | None = None,
    ) -> None:
        super().__init__(root, train, transform)


class CIFAR10(_Local):
    """Small colour images of 10 classes, (32, 32, 3).

    Parameters
    ----------
    root : path
        Folder with the binary batches or ``cifar-10-binary.tar.gz``; nothing is downloaded.
    train : bool
    transform : callable, optional
        ``transform(data, label)`` of each sample.
    """

    def __init__(
        self,
        root: Any = "~/.mxnet/datasets/cifar10",
        train: bool = True,
        transform: Transform | None = None,
    ) -> None:
        self._train = train
        super().__init__(root, transform)

    def _files(self) -> tuple[str, ...]:
        return (
            tuple(f"data_batch_{i}.bin" for i in range(1, 6))
            if self._train
            else ("test_batch.bin",)
        )

    _archive = "cifar-10-binary.tar.gz"
    _labels = 1
    _column = 0

    def _read(self) -> tuple[NDArray, Any]:
        names = self._files()
        readers.unpack(self._root, self._archive, names)
        parts = [
            readers.read_cifar(
                readers.find(self._root, (name,), type(self).__name__, self._archive),
                self._labels,
            )
            for name in names
        ]
        images = np.concatenate([p[0] for p in parts])
        return NDArray(images, cpu()), np.concatenate([p[1][:, self._column] for p in parts])


class CIFAR100(CIFAR10):
    """Small colour images of 100 classes in 20 groups; parameters: see :class:`CIFAR10`.

    Parameters
    ----------
    fine_label : bool
        Labels are the 100 classes, else the 20 groups.
    """

    _archive = "cifar-100-binary.tar.gz"
    _labels = 2

    def __init__(
        self,
        root: Any = "~/.mxnet/datasets/cifar100",
        fine_label: bool = False,
        train: bool = True,
        transform: Transform | None = None,
    ) -> None:
        self._column = int(fine_label)
        super().__init__(root, train, transform)

    def _files(self) -> tuple[str, ...]:
        return ("train.bin",) if self._train else ("test.bin",)


class ImageRecordDataset(RecordFileDataset):
    """Images and labels of a record file; needs the extra ``image``.

    Parameters
    ----------
    filename : path
        The ``.rec`` file; its ``.idx`` lies beside it.
    flag : {1, 0}
        Colour or grey.
    transform : callable, optional
        ``transform(data, label)`` of each sample.
    """

    def __init__(self, filename: Any, flag: int = 1, transform: Transform | None = None) -> None:
        super().__init__(filename)
        self._flag = flag
        self._transform = transform

    def __getitem__(self, idx: int) -> Any:
        header, data = recordio.unpack(super().__getitem__(idx))
        decoded = image.imdecode(data, self._flag)
        if self._transform is not None:
            return self._transform(decoded, header.label)
        return decoded, header.label


class ImageFolderDataset(Dataset):
    """Images in one folder per class; needs the extra ``image``.

    Parameters
    ----------
    root : path
        ``root/car/1.jpg``, ``root/bus/2.png``, ...; labels number the folders by name.
    flag : {1, 0}
        Colour or grey.
    transform : callable, optional
        ``transform(data, label)`` of each sample.
    """

    def __init__(self, root: Any, flag: int = 1, transform: Transform | None = None) -> None:
        self._root = Path(root).expanduser()
        self._flag = flag
        self._transform = transform
        self.synsets: list[str] = []
        self.items: list[tuple[str, int]] = []
        if not self._root.is_dir():
            raise FileNotFoundError(f"ImageFolderDataset: {self._root} is no folder")
        for folder in sorted(self._root.iterdir()):
            if not folder.is_dir():
                warnings.warn(f"Ignoring {folder}, which is not a directory.", stacklevel=2)
                continue
            label = len(self.synsets)
            self.synsets.append(folder.name)
            for path in sorted(folder.iterdir()):
                if path.suffix.lower() not in EXTENSIONS:
                    warnings.warn(
                        f"Ignoring {path} of type {path.suffix}. Only support "
                        f"{', '.join(EXTENSIONS)}",
                        stacklevel=2,
                    )
                    continue
                self.items.append((str(path), label))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, idx: int) -> Any:
        path, label = self.items[idx]
        if path.endswith(".npy"):
            found = NDArray(np.load(path, allow_pickle=False), cpu())
        else:
            found = image.imread(path, self._flag)
        return (found, label) if self._transform is None else self._transform(found, label)
