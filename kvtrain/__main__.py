# SPDX-License-Identifier: Apache-2.0
"""``python -m kvtrain``: the same command line as the console script."""

import importlib

if __name__ == "__main__":
    importlib.import_module("launcher.cli").main()
