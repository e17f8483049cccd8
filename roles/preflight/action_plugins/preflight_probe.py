"""The controller's side of preflight_probe: compares the clocks, and takes a refusal as an answer."""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

Result = dict[str, Any]


class ActionModule(ActionBase):  # type: ignore[misc]  # untyped in Ansible
    """Runs the module; never fails, so that every host's problems can be listed together."""

    def run(self, tmp: None = None, task_vars: Result | None = None) -> Result:
        """Return what the module saw, with `clock_off` in seconds, or the reason why it could not look, `refused`."""
        super().run(tmp, task_vars)
        before = time.time()
        try:
            seen: Result = self._execute_module(task_vars=task_vars)
        except AnsibleError as exc:
            seen = {"failed": True, "msg": str(exc)}
        if seen.get("failed"):
            return {"changed": False, "refused": reason(seen)}
        return {**seen, "clock_off": clock_off(seen["clock"], before, time.time())}


def clock_off(clock: float, before: float, after: float) -> float:
    """How many seconds a clock is surely ahead (negative: behind), when it was read between two moments of ours."""
    return max(clock - after, 0.0) + min(clock - before, 0.0)


def reason(failed: Result) -> str:
    """The last line of what was said, which is where sudo and Python put the cause."""
    said = str(failed.get("module_stderr") or failed.get("module_stdout") or failed.get("msg") or "").strip()
    return said.splitlines()[-1].strip().rstrip(".") if said else "nothing was said"
