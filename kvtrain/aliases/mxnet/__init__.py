# SPDX-License-Identifier: Apache-2.0
"""``import mxnet`` where this file's parent directory is on the path."""

import sys

from kvtrain import install_as_mxnet

if __name__ == "mxnet":
    del sys.modules[__name__]
    install_as_mxnet()
