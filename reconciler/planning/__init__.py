"""What should happen: values in, values out. Pure.

Here: the comparison, the plan, guards, the audit chain, the rules of status checks, schedules.
Not here: reading or writing anything; the time and random numbers come in as values.
Start with `diff`, then `plan`; `status_check` has the one rule that locks and unlocks.
"""
