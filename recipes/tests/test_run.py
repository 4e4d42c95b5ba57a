"""The one command: stages are done once, failures and spent time end the run with a word on how to go on."""

from __future__ import annotations

import argparse
import tempfile
import unittest
from pathlib import Path

from train_rich import PROFILES, Run


class Stages(unittest.TestCase):
    def run_in(self, folder: str, seconds: float | None = None) -> Run:
        return Run(argparse.Namespace(profile="smoke", device="cpu", work=Path(folder), seconds=seconds))

    def test_a_stage_is_done_once(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            count = Path(folder) / "count"
            code = f"open({str(count)!r}, 'a').write('x'); print('said')"
            for _ in range(2):
                self.run_in(folder).stage("one", "-c", code)
            self.assertEqual(count.read_text(), "x")
            self.assertEqual((Path(folder) / "logs" / "one.log").read_text(), "said\n")

    def test_what_fails_is_tried_again(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            with self.assertRaisesRegex(SystemExit, r"one ended with 3: see .*one\.log"):
                self.run_in(folder).stage("one", "-c", "raise SystemExit(3)")
            self.run_in(folder).stage("one", "-c", "pass")
            self.assertTrue((Path(folder) / "one.done").exists())

    def test_time_ends_a_run_and_its_children(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            run = self.run_in(folder, seconds=0)
            other = run.begin("other", "-c", "import time; time.sleep(600)")
            with self.assertRaisesRegex(SystemExit, "time is up during long: run the same command again to go on"):
                run.stage("long", "-c", "import time; time.sleep(600)")
            self.assertNotEqual(other.wait(30), 0)
            self.assertFalse((Path(folder) / "long.done").exists())

    def test_profiles_fit_their_machines(self) -> None:
        fast = PROFILES["h200"]
        busy = fast.video + fast.head_start + fast.drawing + fast.reading
        self.assertLessEqual(busy, 25 - 4)  # text, export and scores take the rest


if __name__ == "__main__":
    unittest.main()
