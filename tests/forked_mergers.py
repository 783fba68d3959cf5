# SPDX-License-Identifier: BSD-3-Clause
"""Many ``registry-merge`` at the same moment: ``python -m tests.forked_mergers``.

Reads a JSON list of argument lists, forks a process for each when all modules are loaded, lets
them begin together, and prints the list of their exit codes. Starting as many interpreters takes
the processors for so long that the first have ended before the last begin.
"""

import json
import os
import sys
import traceback


def main() -> None:
    """Run the commands of standard input."""
    commands = json.load(sys.stdin)
    _load()
    begin, barrier = os.pipe()
    children = [_fork(command, begin, barrier) for command in commands]
    os.close(begin)
    # The end of file is the same for all of them.
    os.close(barrier)
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]))


def _load() -> None:
    import merger.commands.merge_command
    import merger.merge
    import merger.quarantine
    import merger.reports  # noqa: F401


def _fork(command: list[str], begin: int, barrier: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    code: object = 70
    try:
        os.close(barrier)
        os.dup2(2, 1)
        os.read(begin, 1)
        from merger.cli import app

        app(command, prog_name="registry-merge")
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
