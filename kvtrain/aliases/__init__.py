# SPDX-License-Identifier: Apache-2.0
"""A directory for ``sys.path``: in it, ``mxnet`` is kvtrain. ``kvtrain run --as-mxnet`` adds it."""
