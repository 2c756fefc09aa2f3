# SPDX-License-Identifier: Apache-2.0
"""Parameters, constants and dictionaries of them."""

from kvtrain.errors import DeferredInitializationError
from kvtrain.gluon.parameter.constant import Constant
from kvtrain.gluon.parameter.dictionary import ParameterDict
from kvtrain.gluon.parameter.single import Parameter

__all__ = ["Constant", "DeferredInitializationError", "Parameter", "ParameterDict"]
