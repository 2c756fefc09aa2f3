# SPDX-License-Identifier: Apache-2.0
"""A small residual network on generated images, with the Estimator.

python examples/resnet.py
kvtrain launch -n 2 examples/resnet.py
"""

import argparse

import numpy as np

import kvtrain as mx
from kvtrain import gluon
from kvtrain.gluon.contrib.estimator import Estimator, LoggingHandler
from kvtrain.gluon.model_zoo.vision import BasicBlockV1, ResNetV1

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=4)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--samples", type=int, default=480)
args = parser.parse_args()


def shapes(count: int, seed: int) -> gluon.data.ArrayDataset:
    """Noisy colour images of discs, squares, crosses and stripes."""
    rng = np.random.RandomState(seed)
    rows, columns = np.mgrid[:16, :16]
    images = rng.normal(0, 0.3, (count, 3, 16, 16)).astype("float32")
    labels = rng.randint(0, 4, count)
    for image, label in zip(images, labels, strict=True):
        y, x = rows - rng.randint(5, 11), columns - rng.randint(5, 11)
        forms = (
            x * x + y * y <= 16,
            (abs(x) <= 3) & (abs(y) <= 3),
            ((abs(x) <= 1) | (abs(y) <= 1)) & (abs(x) + abs(y) <= 5),
            (x + y) % 4 == 0,
        )
        image += forms[label] * rng.uniform(0.5, 1.5, (3, 1, 1)).astype("float32")
    return gluon.data.ArrayDataset(images, labels.astype("float32"))


kv = mx.kv.create("dist_sync" if mx.launched() else "device")
data = shapes(args.samples, 1)
sampler = gluon.data.SplitSampler(len(data), kv.num_workers, kv.rank, seed=5, even=True)
train = gluon.data.DataLoader(data, args.batch_size, sampler=sampler, last_batch="discard")
test = gluon.data.DataLoader(shapes(128, 2), 64)

mx.random.seed(4)
net = ResNetV1(BasicBlockV1, [1, 1], [8, 8, 16], classes=4, thumbnail=True)
net.initialize(mx.init.MSRAPrelu())
net.hybridize()
# each worker's loss is divided by its own batch: the sum over workers by their number
trainer = gluon.Trainer(
    net.collect_params(),
    mx.optimizer.SGD(learning_rate=0.1, momentum=0.9, rescale_grad=1 / kv.num_workers),
    kvstore=kv,
)
estimator = Estimator(net, gluon.loss.SoftmaxCrossEntropyLoss(), trainer=trainer)
logging = LoggingHandler(metrics=estimator.train_metrics)
estimator.fit(train, epochs=args.epochs, event_handlers=[logging])
estimator.evaluate(test)
print(f"held-out accuracy {estimator.val_metrics[0].get()[1]:.3f}")
