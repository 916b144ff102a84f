"""Real processes: how a daemon starts, drains and which exit code it leaves."""

import signal
import subprocess
import sys
import textwrap

import pytest

HEAD = """
import asyncio, sys
from osscore.errors import InvalidArgument
from ossd import logs
from ossd.run import run
logs.setup("json", sys.stdout)
def say(text):
    print(text, flush=True)
"""


def daemon(body: str, **popen) -> subprocess.Popen:
    code = HEAD + textwrap.dedent(body)
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def ended(process: subprocess.Popen) -> tuple[int, str]:
    output, _ = process.communicate(timeout=30)
    return process.returncode, output


SERVES = """
async def main(stopper):
    say("up")
    await stopper.wait()
    say("drained")
sys.exit(run(main))
"""

HANGS = """
async def main(stopper):
    say("up")
    await stopper.wait()
    say("draining")
    await asyncio.sleep(1000)
sys.exit(run(main, drain_s={drain_s}))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(number):
    process = daemon(SERVES)
    assert process.stdout.readline() == "up\n"
    process.send_signal(number)
    code, output = ended(process)
    assert code == 0
    assert '"event":"stopping"' in output
    assert output.endswith("drained\n")


def test_a_second_signal_ends_at_once():
    process = daemon(HANGS.format(drain_s=1000))
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    while process.stdout.readline() != "draining\n":
        pass
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 128 + signal.SIGTERM


def test_the_drain_has_a_deadline():
    process = daemon(HANGS.format(drain_s=0.05))
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    code, output = ended(process)
    assert code == 75
    assert "drain_deadline_passed" in output


def test_an_error_at_start_is_told_in_one_line_without_traceback():
    code, output = ended(
        daemon(
            """
            async def main(stopper):
                raise InvalidArgument("The key 'zoen' is not known.")
            sys.exit(run(main))
            """
        )
    )
    assert code == 1
    assert output.count("\n") == 1
    assert "zoen" in output
    assert "Traceback" not in output


def test_a_bug_exits_with_70():
    code, output = ended(
        daemon(
            """
            async def main(stopper):
                raise RuntimeError("a bug")
            sys.exit(run(main))
            """
        )
    )
    assert code == 70
    assert "a bug" in output


def test_a_failing_background_task_stops_the_daemon_in_order():
    code, output = ended(
        daemon(
            """
            async def beat():
                raise RuntimeError("heart failure")
            async def main(stopper):
                stopper.tasks.spawn(beat(), name="beat")
                await stopper.wait()
                say("taken down")
            sys.exit(run(main))
            """
        )
    )
    assert code == 70
    assert "heart failure" in output
    assert "taken down" in output


def test_a_fatal_error_of_another_thread_stops_the_daemon():
    code, output = ended(
        daemon(
            """
            import threading
            async def main(stopper):
                error = OSError("the journal is gone")
                threading.Thread(target=stopper.fatal, args=(error,)).start()
                await stopper.wait()
            sys.exit(run(main))
            """
        )
    )
    assert code == 70
    assert "the journal is gone" in output


def test_background_tasks_are_cancelled_at_the_end():
    code, output = ended(
        daemon(
            """
            async def endless():
                try:
                    await asyncio.Event().wait()
                finally:
                    say("cancelled")
            async def main(stopper):
                stopper.tasks.spawn(endless(), name="endless")
                await asyncio.sleep(0)
            sys.exit(run(main))
            """
        )
    )
    assert (code, output) == (0, "cancelled\n")


def test_a_thread_that_hangs_does_not_keep_the_process():
    process = daemon(
        """
        import ossd.run, threading
        ossd.run.THREADS_WAIT_S = 0.05
        async def main(stopper):
            asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
        sys.exit(run(main))
        """
    )
    assert ended(process)[0] == 0


def test_the_plumbing_imports_nothing_heavy():
    """Ten processes share a machine: these cost 5 to 15 MB each where they are not needed."""
    code = (
        "import sys, ossd.http, ossd.rpc, ossd.health, ossd.run, ossd.config, ossd.signing\n"
        "print(sorted({'aiohttp', 'cryptography', 'numpy', 'sqlite_utils'} & sys.modules.keys()))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
