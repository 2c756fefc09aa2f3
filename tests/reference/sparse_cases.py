# SPDX-License-Identifier: Apache-2.0
"""Programs about sparse arrays that the real MXNet and kvtrain both run; `out` is compared.

``python tests/reference/sparse_cases.py tests/reference/sparse.json`` with MXNet 1.9.1
installed writes its answers.
"""

import json
import os
import sys

SETUP = """
c = sparse.csr_matrix([[0, 1, 0], [2, 0, 3]])
c2 = sparse.csr_matrix([[4, 1, 0], [0, 0, 3]])
e = sparse.zeros("csr", (2, 3))
d = nd.array([[1, 2, 3], [4, 5, 6]])
b = nd.array([[1, 2, 3]])
k = nd.array([[1, 0], [0, 1], [2, 2]])
q = nd.array([[1, 0], [0, 1]])
r = sparse.row_sparse_array([[0, 0, 0], [2, 0, -3]])
r2 = sparse.row_sparse_array([[0, 1, 0], [2, 0, 3]])
r3 = sparse.row_sparse_array([[0, 1, 0], [0, 0, 0]])
t = sparse.row_sparse_array(([[1, 2], [3, 4]], [1, 4]), shape=(6, 2))
z = sparse.zeros("row_sparse", (2, 3))
"""

EXPRESSIONS = """
c+c; c+c2; c-c2; c*c; c*c2; c/c; c+d; d+c; c*d; d*c; c-d; d-c; d/c; c+e; e*c; e+d
r+r; r+r2; r-r2; r*r2; r*r3; r/r2; r+d; d+r; r*d; d*r; r-d; d-r; r/d; d/r; r+z; z*r; z+z
c+r; c*r; r-c; c+0; c-0; c+1; c-1; c*2; 2*c; c*0; c/2; 2/c; 1-c; 1+c; 0-c; c**2; 2**c; c%2
r+1; r-1; r*2; r/2; r**2; -c; -r; abs(r); c==c; c>d; c>1; c!=0; c==3; c==0; c!=1; c<1; c>=0
c>=1; r!=0; r==0; r>1; r<=-1; z*3; z+0; e>1
sparse.elemwise_add(c, c); sparse.elemwise_add(c, d); sparse.elemwise_add(r, d)
sparse.elemwise_add(r, c); sparse.elemwise_mul(r, d); sparse.elemwise_mul(d, r)
sparse.elemwise_mul(c, d); sparse.elemwise_mul(d, c); sparse.elemwise_mul(c, c2)
sparse.elemwise_mul(r, r2); sparse.elemwise_sub(r, r2); sparse.elemwise_sub(c, c2)
sparse.elemwise_sub(c, d); sparse.elemwise_div(c, d); sparse.elemwise_div(c, c)
sparse.elemwise_div(r, d); sparse.elemwise_div(r, r); sparse.add(c, c); sparse.add(c, d)
sparse.add(r, b); sparse.add(c, b); sparse.multiply(c, b); sparse.divide(c, b)
sparse.multiply(c, nd.array([[1], [2]])); sparse.multiply(c, nd.array([2]))
sparse.subtract(c, b); sparse.add(c, 1); sparse.subtract(c, 1); sparse.multiply(c, 2)
sparse.divide(c, 2); sparse.multiply(r, 2); sparse.add(r, r); sparse.multiply(r, r)
sparse.broadcast_add(c, b); sparse.broadcast_mul(c, b); sparse.broadcast_div(c, b)
sparse.broadcast_sub(c, b); sparse.broadcast_mul(r, nd.array([[1], [2]]))
nd.broadcast_mul(c, d); nd.broadcast_mul(d, c); nd.maximum(c, 0); nd.maximum(r, r2)
sparse.sum(c); sparse.sum(c, axis=0); sparse.sum(c, axis=1); sparse.sum(c, axis=(0, 1))
sparse.sum(c, axis=0, keepdims=True); sparse.sum(c, axis=1, keepdims=True)
sparse.sum(c, axis=-1); sparse.sum(c, axis=0, exclude=True); sparse.sum(e); sparse.sum(e, axis=0)
sparse.sum(r); sparse.sum(r, axis=0); sparse.sum(r, axis=1); sparse.sum(z); sparse.sum(z, axis=1)
sparse.sum(r, axis=1, keepdims=True); sparse.sum(r, axis=0, keepdims=True)
sparse.mean(c); sparse.mean(c, axis=0); sparse.mean(c, axis=1); nd.mean(r); nd.mean(r, axis=1)
sparse.norm(c); sparse.norm(r); sparse.norm(c, axis=1); sparse.norm(c, ord=1)
sparse.norm(r, ord=1); sparse.norm(r, axis=1); c.sum(); c.max(); c.mean(); r.norm(); r.sum()
nd._internal._square_sum(r, axis=1); nd._internal._square_sum(r, axis=0)
nd._internal._square_sum(r, axis=1, keepdims=True)
sparse.clip(c, 0, 2); sparse.clip(r, -1, 1); c.clip(0, 1)
sparse.exp(c); sparse.log(c); sparse.cos(c); sparse.sigmoid(c); sparse.rsqrt(c)
sparse.arccos(c); sparse.arccosh(c); sparse.zeros_like(c); sparse.zeros_like(r)
nd.ones_like(c); sparse.make_loss(c); sparse.make_loss(r); sparse.stop_gradient(c)
sparse.stop_gradient(r); nd.identity(c); nd.BlockGrad(r); nd.softmax(c)
nd.Cast(c, dtype="float64"); nd.cast(r, dtype="int32"); c.astype("float64"); r.astype("int32")
sparse.where(c, d, d + 1); sparse.where(c, d, c); sparse.where(d, c, c); sparse.where(r, d, d)
sparse.concat(c, c, dim=0); sparse.concat(c, c, dim=1); sparse.concat(r, r, dim=0)
sparse.concat(c, d, dim=0); sparse.concat(e, c2, e, dim=0); nd.stack(c, c)
sparse.add_n(c, c); sparse.add_n(r, r, r2); sparse.add_n(r, d); sparse.add_n(r, r, d)
sparse.add_n(d, r, d); sparse.add_n(c, c, d); sparse.add_n(c, d, c); sparse.add_n(c, r)
sparse.ElementWiseSum(r, r2); sparse.add_n(r)
sparse.slice(c, begin=(0, 0), end=(1, 2)); sparse.slice(c, begin=0, end=1)
sparse.slice(c, begin=(None, 1), end=(None, 3)); sparse.slice(r, begin=0, end=1)
sparse.slice(c, begin=(0, 0), end=(2, 3), step=(1, 2)); nd.slice_axis(c, axis=0, begin=0, end=1)
c[0]; c[1]; c[-1]; c[0:1]; c[1:]; c[:]; c[-1:]
sparse.dot(c, k); sparse.dot(c, q, transpose_a=True); sparse.dot(c, k, forward_stype="row_sparse")
sparse.dot(c, q, transpose_a=True, forward_stype="row_sparse")
sparse.dot(c, q, transpose_a=True, forward_stype="default")
sparse.dot(c, q, transpose_a=True, forward_stype="csr"); sparse.dot(c, k, forward_stype="default")
sparse.dot(nd.array([[1, 2]]), c); sparse.dot(nd.array([[1, 2]]), c, forward_stype="default")
sparse.dot(nd.array([[1, 2]]), c, forward_stype="csr"); sparse.dot(b, c, transpose_b=True)
sparse.dot(b, c, transpose_b=True, forward_stype="default"); sparse.dot(e, k)
sparse.dot(nd.array([[1], [2]]), c, transpose_a=True); sparse.dot(c, c, transpose_b=True)
sparse.dot(c, c2, transpose_a=True); sparse.dot(c, k.tostype("row_sparse"))
sparse.dot(c, sparse.row_sparse_array([[1, 0], [0, 0], [2, 2]]))
sparse.dot(c, sparse.row_sparse_array([[1, 0], [0, 1]]), transpose_a=True)
sparse.dot(c, sparse.row_sparse_array([[1, 0], [0, 1]]), transpose_a=True, forward_stype="default")
sparse.dot(c, sparse.zeros("row_sparse", (3, 2))); sparse.dot(r, k)
sparse.dot(nd.array([[1, 2]]), r); sparse.dot(c, d, transpose_b=True)
sparse.dot(d, d, transpose_b=True, forward_stype="row_sparse")
sparse.dot(d, d, transpose_b=True, forward_stype="csr"); nd.dot(c, k); nd.dot(d, k)
nd.Embedding(nd.array([0, 1]), q, input_dim=2, output_dim=2, sparse_grad=True)
nd.Embedding(nd.array([[0, 1], [1, 1]]), r2, input_dim=2, output_dim=3)
nd.Embedding(nd.array([0, 1]), r3, input_dim=2, output_dim=3)
nd.contrib.SparseEmbedding(nd.array([0, 1]), q, input_dim=2, output_dim=2)
sparse.FullyConnected(c, b, nd.array([1]), num_hidden=1)
sparse.FullyConnected(b, sparse.row_sparse_array([[1, 2, 3]]), nd.array([1]), num_hidden=1)
sparse.LogisticRegressionOutput(b, sparse.csr_matrix([[0, 1, 0]]))
sparse.LinearRegressionOutput(b, sparse.csr_matrix([[0, 1, 0]]))
sparse.MAERegressionOutput(b, sparse.csr_matrix([[0, 1, 0]]))
sparse.elemwise_add(c, c, out=sparse.zeros("csr", (2, 3)))
sparse.elemwise_add(d, d, out=sparse.zeros("csr", (2, 3)))
sparse.elemwise_add(d, d, out=sparse.zeros("row_sparse", (2, 3)))
nd.elemwise_add(c, c, out=nd.zeros((2, 3))); sparse.elemwise_add(r, r, out=nd.zeros((2, 3)))
sparse.square(r, out=nd.zeros((2, 3))); nd.take(c, nd.array([1, 0, 1])); nd.take(r, nd.array([1]))
nd.transpose(c); c.T; nd.Flatten(c); nd.expand_dims(c, 0); c.broadcast_to((2, 3))
nd.contrib.getnnz(c); nd.contrib.getnnz(c, axis=1)
nd._internal._scatter_elemwise_div(r, d); nd._internal._scatter_elemwise_div(c, d)
nd._internal._scatter_plus_scalar(r, scalar=1); nd._internal._scatter_minus_scalar(r, scalar=1)
nd._internal._scatter_plus_scalar(c, scalar=1)
nd.cast_storage(d, "csr"); nd.cast_storage(d, "row_sparse"); nd.cast_storage(r, "default")
nd.ones((2, 3, 2)).tostype("row_sparse"); nd.ones((2,)).tostype("row_sparse")
sparse.retain(t, nd.array([0, 4])); sparse.retain(t, nd.array([1, 2, 3, 4]))
nd._internal._identity_with_attr_like_rhs(r, d)
nd._internal._identity_with_attr_like_rhs(r, r2)
sparse.retain(t, nd.array([4, 1], dtype="int64")); sparse.retain(t, nd.array([4, 4]))
sparse.csr_matrix(([1, 2, 3], [1, 0, 2], [0, 1, 1, 2, 3])); sparse.csr_matrix((4, 3))
sparse.csr_matrix(([1, 2, 3], [1, 0, 2], [0, 1, 1, 2, 3]), shape=(4, 5), dtype="int32")
sparse.row_sparse_array(([[1, 2], [3, 4]], [1, 4])); sparse.row_sparse_array((6, 2, 3))
sparse.row_sparse_array((np.array([[1, 2]], "int32"), [3])); sparse.array(t, dtype="float64")
sparse.csr_matrix(np.array([[0, 1], [2, 0]])); sparse.row_sparse_array(np.array([[0, 0], [2, 0]]))
""" + "".join(
    f"\nsparse.{name}(c); sparse.{name}(r2)"
    for name in (
        "abs arcsinh arctan cbrt ceil degrees expm1 fix floor log1p negative radians relu rint"
        " round sign sin sinh sqrt square tan tanh trunc"
    ).split()
)

#: several statements each
PROGRAMS = [
    "out = c.copy(); out += c",
    "out = c.copy(); out += d",
    "out = c.copy(); out *= 2",
    "out = r.copy(); out += r2",
    "out = r.copy(); out *= 2; out += 1",
    "out = r.copy(); out[:] = d",
    "out = r.copy(); out[:] = 5",
    "out = c.copy(); out[:] = d",
    "out = d.copy(); r.copyto(out)",
    "out = sparse.zeros('row_sparse', (2, 3)); d.copyto(out)",
]


def _recorded(forward: str, shown: str, setup: str = "") -> str:
    """A program that differentiates `forward`, which sets y."""
    return f"{setup}\nwith autograd.record():\n    {forward}\ny.backward()\nout = {shown}"


_TABLE = "w = nd.array([[1, 2], [3, 4], [5, 6]]); w.attach_grad({})"
_LOOK_UP = "nd.Embedding(nd.array([{}]), w, input_dim=3, output_dim=2, sparse_grad=True)"
_ONE = _LOOK_UP.format("2, 0, 2")
_SPARSE = _TABLE.format("stype='row_sparse'")
PROGRAMS += [
    _recorded("y = sparse.dot(c, w)", "w.grad", _SPARSE),
    _recorded("y = sparse.dot(c, w)", "w.grad", _TABLE.format("")),
    _recorded("y = sparse.dot(c, w) * q", "w.grad", _SPARSE),
    _recorded(
        "y = sparse.dot(c, w)",
        "w.grad",
        "w = nd.array([[1, 2], [3, 4], [5, 6]]).tostype('row_sparse'); w.attach_grad()",
    ),
    _recorded(
        "y = sparse.dot(c, w, transpose_a=True)",
        "w.grad",
        "w = nd.array([[1, 2], [3, 4]]); w.attach_grad(stype='row_sparse')",
    ),
    _recorded(
        "y = sparse.dot(d, w)", "w.grad", "w = nd.array([[1, 2], [3, 4], [5, 6]]); w.attach_grad()"
    ),
    _recorded(f"y = {_ONE}", "w.grad", _SPARSE),
    _recorded(f"y = {_ONE} * nd.array([[1, 2], [3, 4], [5, 6]])", "w.grad", _SPARSE),
    _recorded(f"y = {_ONE} + {_LOOK_UP.format('1, 0, 2')}", "w.grad", _SPARSE),
    _recorded(f"y = {_ONE} * 0", "w.grad", _SPARSE),
    _recorded("y = r * 2", "r.grad", "r.attach_grad()"),
    _recorded("y = sparse.sum(r)", "r.grad", "r.attach_grad()"),
    _recorded("y = sparse.square(r)", "r.grad", "r.attach_grad()"),
    _recorded("y = r + r2", "[r.grad, r2.grad]", "r.attach_grad(); r2.attach_grad()"),
    _recorded("y = r * d", "d.grad", "r.attach_grad(); d.attach_grad()"),
    _recorded("y = sparse.norm(r)", "r.grad", "r.attach_grad()"),
    _recorded("y = nd._internal._square_sum(r, axis=1)", "r.grad", "r.attach_grad()"),
    _recorded("y = d.tostype('csr') * 3", "d.grad", "d.attach_grad()"),
    _recorded("y = sparse.retain(t, nd.array([1, 4]))", "t.grad", "t.attach_grad()"),
    f"{_SPARSE}\nwith autograd.record():\n    y = {_ONE}\nout = autograd.grad(y, [w])",
]


_WEIGHT = "w = nd.array([[1, 2, 3], [4, 5, 6]])"
_RATES = "lr=0.5, wd=0.25, rescale_grad=2, clip_gradient=5"
for _stype in ("default", "row_sparse"):
    _make = f"{_WEIGHT}.tostype('{_stype}')"
    _state = f"nd.zeros((2, 3)).tostype('{_stype}')"
    PROGRAMS += [
        f"{_make}; sparse.sgd_update(w, r, {_RATES}, out=w); out = w",
        f"{_make}; sparse.sgd_update(w, z, {_RATES}, out=w); out = w",
        f"{_make}; m = {_state}\nfor _ in range(2):\n"
        f"    sparse.sgd_mom_update(w, r, m, momentum=0.5, {_RATES}, out=w)\nout = [w, m]",
        f"{_make}; m = {_state}; v = {_state}\nfor _ in range(2):\n"
        f"    sparse.adam_update(w, r, m, v, {_RATES}, out=w)\nout = [w, m, v]",
    ]
_make = f"{_WEIGHT}.tostype('row_sparse')"
PROGRAMS += [
    f"{_make}; n = sparse.zeros('row_sparse', (2, 3)); v = sparse.zeros('row_sparse', (2, 3))\n"
    f"for _ in range(2):\n    sparse.ftrl_update(w, r, n, v, {_RATES}, out=w)\nout = [w, n, v]",
    f"{_make}; h = nd.zeros((2, 3)).tostype('row_sparse')\nfor _ in range(2):\n"
    "    sparse.adagrad_update(w, r, h, lr=0.5, rescale_grad=2, clip_gradient=5, out=w)\n"
    "out = [w, h]",
]

for _kind in ("SGD(learning_rate=0.5, momentum=0.5, wd=0.25)", "Adam(learning_rate=0.5)"):
    PROGRAMS.append(
        f"{_make}; o = mx.optimizer.{_kind}; s = o.create_state(0, w)\n"
        "out = list(s) if isinstance(s, tuple) else [s]\nout = [a.copy() for a in out]\n"
        "for _ in range(2):\n    o.update(0, w, r, s)\nout += [w]"
    )
PROGRAMS.append(
    f"{_make}; o = mx.optimizer.SGD(momentum=0.5, lazy_update=False)\nout = o.create_state(0, w)"
)


def programs() -> list:
    """All of them, each leaving its answer in `out`."""
    lines = EXPRESSIONS.replace("\n", ";").split(";")
    return [f"out = {line.strip()}" for line in lines if line.strip()] + PROGRAMS


def run(source: str, names: dict) -> list:
    """What `source` leaves in `out`, as plain data."""
    names = dict(names)
    exec(SETUP + source, names)
    out = names["out"]
    found = []
    for array in out if isinstance(out, list) else [out]:
        one = {
            "stype": array.stype,
            "shape": list(array.shape),
            "dtype": names["np"].dtype(array.dtype).name,
            "values": [str(v) for v in array.asnumpy().astype("float64").reshape(-1)],
        }
        if array.stype == "row_sparse":
            one["rows"] = array.indices.asnumpy().tolist()
        found.append(one)
    return found


if __name__ == "__main__":
    os.environ["MXNET_STORAGE_FALLBACK_LOG_VERBOSE"] = "0"
    import mxnet as mx
    import numpy as np

    answers = {}
    for program in programs():
        answers[program] = run(
            program,
            {"mx": mx, "np": np, "nd": mx.nd, "sparse": mx.nd.sparse, "autograd": mx.autograd},
        )
    with open(sys.argv[1], "w") as file:
        json.dump(answers, file, indent=0)
        file.write("\n")
