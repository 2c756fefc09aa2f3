# SPDX-License-Identifier: Apache-2.0
"""``python -m kvtrain``."""

import sys

if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        # every worker passes here on its way to the user's script: load nothing else
        from launcher import worker

        sys.exit(worker.main(sys.argv[2:]))
    from launcher.cli import main

    main()
