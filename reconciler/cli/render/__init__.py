"""Reports as text, JSON, markdown and what pipelines read. Pure: a report in, a text out.

Start with `output`, which chooses.
"""
