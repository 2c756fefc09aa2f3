# SPDX-License-Identifier: Apache-2.0
"""Layers, cells and losses as one table; the real MXNet 1.9.1 ran it for tests/reference.

Imports neither package: ``build(gluon)`` makes the block from the `gluon` it is given,
``call(mx, block, *inputs)`` runs it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Case(NamedTuple):
    """One block and its inputs: shapes of uniform floats, or arrays."""

    name: str
    build: Callable[[Any], Any]
    inputs: tuple[Any, ...]
    call: Callable[..., Any] = lambda mx, block, *inputs: block(*inputs)
    #: False: MXNet cannot train it on the CPU, or does it wrongly
    trains: bool = True


def arrays(case: Case) -> list[np.ndarray]:
    """The inputs, the same in every process."""
    rng = np.random.RandomState(sum(map(ord, case.name)))
    return [
        rng.uniform(-1, 1, given).astype("float32") if isinstance(given, tuple) else given
        for given in case.inputs
    ]


def flat(out: Any) -> list[Any]:
    """All arrays of an output, each once: a cell's output is often a state too."""
    parts = [a for part in out for a in flat(part)] if isinstance(out, list | tuple) else [out]
    return list({id(a): a for a in parts}.values())


def run(mx: Any, case: Case) -> dict[str, Any]:
    """Outputs in training and prediction, gradients, names and ``repr`` of `case`."""
    with mx.gluon.Block(prefix="t_").name_scope():
        block = case.build(mx.gluon)
    mx.random.seed(11)
    block.initialize(mx.init.Uniform(0.6))
    raw = arrays(case)
    inputs = [mx.nd.array(a, dtype=a.dtype) for a in raw]
    floats = [a for a, given in zip(inputs, case.inputs, strict=True) if isinstance(given, tuple)]
    for a in floats:
        a.attach_grad()
    if not case.trains:
        outs = flat(case.call(mx, block, *inputs))
        return {f"out{i}": o.asnumpy() for i, o in enumerate(outs)} | {"text": _text(block)}
    with mx.autograd.record():
        outs = flat(case.call(mx, block, *inputs))
    # every element of every output gets another head gradient
    heads = [mx.nd.array(np.cos(np.arange(o.size)).reshape(o.shape)) for o in outs]
    mx.autograd.backward(outs, heads)
    found: dict[str, Any] = {f"out{i}": o.asnumpy() for i, o in enumerate(outs)}
    found |= {f"grad{i}": a.grad.asnumpy() for i, a in enumerate(floats)}
    params = block.collect_params()
    for name, p in params.items():
        found["data_" + name] = p.data().asnumpy()
        if p.grad_req != "null":
            found["grad_" + name] = p.grad().asnumpy()
    if hasattr(block, "reset"):
        block.reset()
    again = flat(case.call(mx, block, *inputs))
    found |= {f"predicted{i}": o.asnumpy() for i, o in enumerate(again)}
    if all(np.allclose(found[f"out{i}"], found[f"predicted{i}"]) for i in range(len(outs))):
        for i in range(len(outs)):
            del found[f"predicted{i}"]
    return found | {"text": _text(block)}


def _text(block: Any) -> dict[str, Any]:
    params = block.collect_params()
    return {
        "repr": repr(block),
        "prefix": block.prefix,
        "names": list(params),
        "structure": list(block._collect_params_with_prefix()),
        "shapes": [list(p.shape) for p in params.values()],
    }


def _stack(nn: Any, *layers: Any) -> Any:
    net = nn.HybridSequential()
    net.add(*layers)
    return net


X4 = (2, 3, 7, 6)
LAYERS = [
    Case("dense", lambda g: g.nn.Dense(3, activation="tanh"), ((4, 2, 5),)),
    Case("dense_rows", lambda g: g.nn.Dense(3, flatten=False, use_bias=False), ((4, 2, 5),)),
    Case("conv1d", lambda g: g.nn.Conv1D(4, 3, strides=2, padding=1), ((2, 3, 9),)),
    Case("conv2d", lambda g: g.nn.Conv2D(4, (3, 2), padding=(1, 0), activation="relu"), (X4,)),
    Case("conv2d_groups", lambda g: g.nn.Conv2D(6, 3, groups=3, dilation=2, use_bias=False), (X4,)),
    Case("conv3d", lambda g: g.nn.Conv3D(2, 2, strides=(1, 2, 1)), ((2, 3, 4, 5, 3),)),
    Case("deconv1d", lambda g: g.nn.Conv1DTranspose(4, 3, strides=2), ((2, 3, 5),)),
    Case(
        "deconv2d",
        lambda g: g.nn.Conv2DTranspose(4, 3, strides=2, padding=1, output_padding=1),
        ((2, 3, 4, 5),),
    ),
    Case(
        "deconv2d_groups",
        lambda g: g.nn.Conv2DTranspose(4, 3, groups=2, in_channels=4, activation="sigmoid"),
        ((2, 4, 4, 5),),
    ),
    Case("deconv3d", lambda g: g.nn.Conv3DTranspose(2, 2, use_bias=False), ((1, 2, 2, 3, 3),)),
    Case("maxpool1d", lambda g: g.nn.MaxPool1D(3, 2, 1), ((2, 3, 9),)),
    Case("maxpool2d", lambda g: g.nn.MaxPool2D(), (X4,)),
    Case("maxpool2d_ceil", lambda g: g.nn.MaxPool2D(3, 2, 1, ceil_mode=True), (X4,)),
    Case("maxpool3d", lambda g: g.nn.MaxPool3D(), ((1, 2, 4, 4, 5),)),
    Case("avgpool1d", lambda g: g.nn.AvgPool1D(3, 2, 1), ((2, 3, 9),)),
    Case("avgpool2d", lambda g: g.nn.AvgPool2D(3, 2, 1, ceil_mode=True), (X4,)),
    Case("avgpool2d_inside", lambda g: g.nn.AvgPool2D(3, 2, 1, count_include_pad=False), (X4,)),
    Case("avgpool3d", lambda g: g.nn.AvgPool3D(2, 1), ((1, 2, 3, 4, 5),)),
    Case("globalmax1d", lambda g: g.nn.GlobalMaxPool1D(), ((2, 3, 9),)),
    Case("globalmax2d", lambda g: g.nn.GlobalMaxPool2D(), (X4,)),
    Case("globalmax3d", lambda g: g.nn.GlobalMaxPool3D(), ((1, 2, 3, 4, 5),)),
    Case("globalavg1d", lambda g: g.nn.GlobalAvgPool1D(), ((2, 3, 9),)),
    Case("globalavg2d", lambda g: g.nn.GlobalAvgPool2D(), (X4,)),
    Case("globalavg3d", lambda g: g.nn.GlobalAvgPool3D(), ((1, 2, 3, 4, 5),)),
    Case("reflection", lambda g: g.nn.ReflectionPad2D(2), (X4,)),
    Case("batchnorm", lambda g: g.nn.BatchNorm(momentum=0.7), (X4,)),
    Case("batchnorm_last", lambda g: g.nn.BatchNorm(axis=-1, scale=False), ((5, 4),)),
    Case("batchnorm_relu", lambda g: g.nn.BatchNormReLU(), (X4,)),
    Case("layernorm", lambda g: g.nn.LayerNorm(), ((4, 2, 5),)),
    Case("layernorm_axis", lambda g: g.nn.LayerNorm(axis=1, scale=False), ((4, 6, 5),)),
    Case("groupnorm", lambda g: g.nn.GroupNorm(2), ((2, 4, 3, 3),)),
    Case("instancenorm", lambda g: g.nn.InstanceNorm(scale=True), (X4,)),
    Case("instancenorm_last", lambda g: g.nn.InstanceNorm(axis=2), ((2, 3, 5),)),
    Case("leaky", lambda g: g.nn.LeakyReLU(0.2), ((4, 5),)),
    Case("prelu", lambda g: g.nn.PReLU(in_channels=3), (X4,)),
    Case("elu", lambda g: g.nn.ELU(0.7), ((4, 5),)),
    # MXNet takes the derivative at the output instead of the input
    Case("selu", lambda g: g.nn.SELU(), ((4, 5),), trains=False),
    Case("gelu", lambda g: g.nn.GELU(), ((4, 5),)),
    Case("swish", lambda g: g.nn.Swish(1.5), ((4, 5),)),
    Case("softsign", lambda g: g.nn.Activation("softsign"), ((4, 5),)),
    Case("embedding", lambda g: g.nn.Embedding(7, 3), (np.array([[1, 6], [0, 6]], "float32"),)),
    Case("dropout", lambda g: g.nn.Dropout(0.4, axes=(1,)), ((4, 5, 3),)),
    Case("flatten", lambda g: g.nn.Flatten(), ((4, 5, 3),)),
    Case("lambda", lambda g: g.nn.HybridLambda("tanh"), ((4, 5),)),
    Case(
        "concurrent",
        lambda g: _hybrid_concurrent(g),
        ((4, 5),),
    ),
    Case("shuffle1d", lambda g: g.contrib.nn.PixelShuffle1D(2), ((2, 4, 3),)),
    Case("shuffle2d", lambda g: g.contrib.nn.PixelShuffle2D((2, 3)), ((2, 12, 3, 2),)),
    Case("shuffle3d", lambda g: g.contrib.nn.PixelShuffle3D((2, 1, 3)), ((1, 12, 2, 3, 2),)),
    Case(
        "deformable",
        lambda g: g.contrib.cnn.DeformableConvolution(
            4,
            kernel_size=(3, 2),
            strides=(2, 1),
            padding=(1, 0),
            activation="relu",
            offset_weight_initializer=None,
            num_deformable_group=1,
        ),
        (X4,),
    ),
    Case(
        "nested",
        lambda g: _stack(
            g.nn,
            g.nn.Conv2D(4, 3),
            _stack(g.nn, g.nn.BatchNorm(), g.nn.Activation("relu")),
            g.nn.Dense(2),
        ),
        (X4,),
    ),
]


def _hybrid_concurrent(g: Any) -> Any:
    net = g.contrib.nn.HybridConcurrent(axis=1)
    net.add(g.nn.Dense(2), g.contrib.nn.Identity(), g.nn.Dense(3, activation="relu"))
    return net


def _step(mx: Any, cell: Any, x: Any, *states: Any) -> Any:
    return cell(x, list(states))


def _unroll(length: int, layout: str = "NTC", merge: bool | None = True) -> Callable[..., Any]:
    def run_cell(mx: Any, cell: Any, x: Any, *valid: Any) -> Any:
        return cell.unroll(
            length,
            x,
            layout=layout,
            merge_outputs=merge,
            valid_length=valid[0] if valid else None,
        )

    return run_cell


def _sequential(g: Any, kind: str = "SequentialRNNCell") -> Any:
    cell = getattr(g.rnn, kind)()
    with cell.name_scope():
        cell.add(g.rnn.LSTMCell(4))
        cell.add(g.rnn.ResidualCell(g.rnn.GRUCell(4)))
        cell.add(g.rnn.RNNCell(3, activation="relu"))
    return cell


def _bidirectional(g: Any) -> Any:
    return g.rnn.BidirectionalCell(g.rnn.LSTMCell(3), g.rnn.GRUCell(4))


def _layer(mx: Any, layer: Any, x: Any) -> Any:
    batch = x.shape[layer._layout.index("N")]
    states = layer.begin_state(batch, func=mx.nd.ones)
    return layer(x, states)


VALID = np.array([3, 1], "float32")
CELLS = [
    Case("rnn_cell", lambda g: g.rnn.RNNCell(4), ((3, 5), (3, 4)), _step),
    Case("lstm_cell", lambda g: g.rnn.LSTMCell(4), ((3, 5), (3, 4), (3, 4)), _step),
    Case("gru_cell", lambda g: g.rnn.GRUCell(4), ((3, 5), (3, 4)), _step),
    Case("rnn_unroll", lambda g: g.rnn.RNNCell(4), ((2, 3, 5),), _unroll(3, merge=None)),
    Case("lstm_unroll", lambda g: g.rnn.LSTMCell(4), ((3, 2, 5),), _unroll(3, "TNC")),
    Case("gru_valid", lambda g: g.rnn.GRUCell(4), ((2, 3, 5), VALID), _unroll(3)),
    Case("sequential", _sequential, ((2, 3, 4),), _unroll(3)),
    Case(
        "hybrid_sequential",
        lambda g: _sequential(g, "HybridSequentialRNNCell"),
        ((2, 3, 4), VALID),
        _unroll(3, merge=False),
    ),
    Case("bidirectional", _bidirectional, ((2, 3, 5),), _unroll(3)),
    Case("bidirectional_valid", _bidirectional, ((2, 3, 5), VALID), _unroll(3, merge=False)),
    Case(
        "zoneout",
        lambda g: g.rnn.ZoneoutCell(g.rnn.LSTMCell(4), 0.3, 0.4),
        ((2, 3, 5),),
        _unroll(3),
    ),
    Case("dropout_cell", lambda g: g.rnn.DropoutCell(0.4), ((2, 3, 5),), _unroll(3)),
    Case(
        "variational",
        lambda g: g.contrib.rnn.VariationalDropoutCell(g.rnn.LSTMCell(4), 0.3, 0.2, 0.4),
        ((2, 3, 5),),
        _unroll(3),
    ),
    Case(
        "variational_whole",
        lambda g: g.contrib.rnn.VariationalDropoutCell(g.rnn.LSTMCell(4), 0.3, 0, 0.4),
        ((2, 3, 5), VALID),
        _unroll(3),
    ),
    Case("lstmp_cell", lambda g: g.contrib.rnn.LSTMPCell(4, 3), ((2, 3, 5),), _unroll(3)),
    Case(
        "conv1d_rnn",
        lambda g: g.contrib.rnn.Conv1DRNNCell((3, 6), 2, 3, 3, activation="relu"),
        ((2, 2, 3, 6),),
        _unroll(2, "NTCW"),
    ),
    Case(
        "conv2d_lstm",
        lambda g: g.contrib.rnn.Conv2DLSTMCell((3, 4, 5), 2, 3, 3, i2h_pad=1),
        ((2, 2, 3, 4, 5),),
        _unroll(2, "NTCHW"),
    ),
    Case(
        "conv2d_gru",
        lambda g: g.contrib.rnn.Conv2DGRUCell((2, 4, 4), 2, 2, 3, h2h_dilate=2),
        ((2, 2, 2, 4, 4),),
        _unroll(2, "NTCHW"),
    ),
    Case("rnn_layer", lambda g: g.rnn.RNN(4), ((3, 2, 5),), _layer),
    Case("rnn_tanh", lambda g: g.rnn.RNN(4, 2, "tanh", layout="NTC"), ((2, 3, 5),), _layer),
    Case("lstm_layer", lambda g: g.rnn.LSTM(4, 2, bidirectional=True), ((3, 2, 5),), _layer),
    Case("lstm_alone", lambda g: g.rnn.LSTM(4, layout="NTC"), ((2, 3, 5),)),
    Case("lstm_projected", lambda g: g.rnn.LSTM(4, projection_size=3), ((3, 2, 5),), _layer, False),
    Case("gru_layer", lambda g: g.rnn.GRU(4, 2, input_size=5), ((3, 2, 5),), _layer),
    Case("gru_both", lambda g: g.rnn.GRU(3, bidirectional=True), ((3, 2, 5),), _layer),
]

SIGNS = np.array([[1, -1, 1], [-1, 1, 1]], "float32")
BITS = (SIGNS + 1) / 2
SHARES = np.array([[0.2, 0.3, 0.5], [0.1, 0.8, 0.1]], "float32")
PER_SAMPLE = np.array([[0.5], [2.0]], "float32")
COUNTS = np.array([[0, 1, 4], [2, 3, 7]], "float32")
LABELS = np.array([[1, 2, -1], [0, 0, 2]], "float32")
P = (2, 3)
LOSSES = [
    Case("l1", lambda g: g.loss.L1Loss(), (P, SIGNS)),
    Case("l2_weighted", lambda g: g.loss.L2Loss(weight=3.0), (P, SIGNS, PER_SAMPLE)),
    Case("l2_axis", lambda g: g.loss.L2Loss(batch_axis=1), (P, P)),
    Case("bce", lambda g: g.loss.SigmoidBCELoss(), (P, BITS)),
    Case(
        "bce_pos",
        lambda g: g.loss.SigmoidBCELoss(),
        (P, BITS, PER_SAMPLE, np.array([[2, 3, 0.5]], "float32")),
    ),
    Case(
        "bce_probabilities",
        lambda g: g.loss.SigmoidBCELoss(from_sigmoid=True),
        (P, BITS),
        lambda mx, loss, p, y: loss(mx.nd.sigmoid(p), y),
    ),
    Case("ce", lambda g: g.loss.SoftmaxCELoss(), (P, np.array([2, 0], "float32"), PER_SAMPLE)),
    Case("ce_shares", lambda g: g.loss.SoftmaxCELoss(sparse_label=False), (P, SHARES)),
    Case("ce_axis", lambda g: g.loss.SoftmaxCELoss(axis=1), ((2, 3, 2), np.ones((2, 2), "f"))),
    Case(
        "ce_logits",
        lambda g: g.loss.SoftmaxCELoss(from_logits=True, weight=0.5),
        (P, np.array([2, 0], "float32")),
    ),
    Case("kl", lambda g: g.loss.KLDivLoss(), (P, SHARES)),
    Case("kl_scores", lambda g: g.loss.KLDivLoss(from_logits=False), (P, SHARES, PER_SAMPLE)),
    Case("huber", lambda g: g.loss.HuberLoss(rho=0.5), (P, SIGNS)),
    Case("hinge", lambda g: g.loss.HingeLoss(margin=0.8), (P, SIGNS)),
    Case("squared_hinge", lambda g: g.loss.SquaredHingeLoss(), (P, SIGNS)),
    Case("logistic", lambda g: g.loss.LogisticLoss(), (P, SIGNS)),
    Case("logistic_bits", lambda g: g.loss.LogisticLoss(label_format="binary"), (P, BITS)),
    Case("triplet", lambda g: g.loss.TripletLoss(margin=0.5), (P, P, P)),
    Case("poisson", lambda g: g.loss.PoissonNLLLoss(), (P, COUNTS)),
    Case(
        "poisson_full",
        lambda g: g.loss.PoissonNLLLoss(compute_full=True),
        (P, COUNTS + 1, PER_SAMPLE),
        trains=False,
    ),
    Case(
        "poisson_rates",
        lambda g: g.loss.PoissonNLLLoss(from_logits=False),
        (P, COUNTS),
        lambda mx, loss, p, y: loss(mx.nd.exp(p), y),
    ),
    Case(
        "cosine",
        lambda g: g.loss.CosineEmbeddingLoss(margin=0.1),
        (P, P, np.array([1, -1], "float32")),
    ),
    Case("sdml", lambda g: g.loss.SDMLLoss(), ((4, 3), (4, 3))),
    Case("ctc", lambda g: g.loss.CTCLoss(), ((2, 6, 4), LABELS)),
    Case(
        "ctc_lengths",
        lambda g: g.loss.CTCLoss(layout="TNC", label_layout="TN", weight=2.0),
        ((6, 2, 4), LABELS.T, np.array([5, 6], "float32"), np.array([2, 3], "float32")),
    ),
]
CASES = [*LAYERS, *CELLS, *LOSSES]
