# SPDX-License-Identifier: Apache-2.0
"""What other people's modules import from MXNet's module names is there."""

import importlib

import pytest

NAMES = {
    "block": "Block HybridBlock _BlockScope",
    "parameter": "Parameter ParameterDict Constant DeferredInitializationError",
    "trainer": "Trainer",
    "loss": "Loss L2Loss CTCLoss",
    "utils": "split_data split_and_load clip_global_norm check_sha1 download HookHandle",
    "nn.activations": "Activation PReLU Swish",
    "nn.basic_layers": "Dense Sequential HybridSequential Embedding Lambda",
    "nn.conv_layers": "Conv2D Conv3DTranspose MaxPool2D GlobalAvgPool1D ReflectionPad2D",
    "rnn.rnn_cell": "LSTMCell ModifierCell BidirectionalCell SequentialRNNCell",
    "rnn.rnn_layer": "RNN LSTM GRU",
    "data.dataset": "Dataset ArrayDataset SimpleDataset RecordFileDataset",
    "data.dataloader": "DataLoader default_batchify_fn default_mp_batchify_fn",
    "data.sampler": "Sampler RandomSampler BatchSampler",
    "data.vision.datasets": "MNIST CIFAR10 ImageFolderDataset ImageRecordDataset",
    "data.vision.transforms": "Compose ToTensor RandomResizedCrop",
    "contrib.nn.basic_layers": "Concurrent SyncBatchNorm PixelShuffle2D",
    "contrib.rnn.rnn_cell": "VariationalDropoutCell dynamic_unroll",
    "contrib.rnn.conv_rnn_cell": "Conv2DLSTMCell",
    "contrib.data.sampler": "IntervalSampler",
    "contrib.estimator.estimator": "Estimator",
    "contrib.estimator.event_handler": "CheckpointHandler LoggingHandler TrainBegin",
    "contrib.estimator.batch_processor": "BatchProcessor",
    "model_zoo.vision.resnet": "ResNetV1 get_resnet resnet18_v1",
    "model_zoo.vision.mobilenet": "MobileNetV2",
    "model_zoo.model_store": "get_model_file",
}


@pytest.mark.parametrize("module", NAMES)
def test_names(module: str) -> None:
    found = importlib.import_module(f"kvtrain.gluon.{module}")
    missing = [name for name in NAMES[module].split() if not hasattr(found, name)]
    assert not missing
