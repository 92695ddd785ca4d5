"""Reports as text, JSON, markdown and formats for pipelines. Pure: a report in, a text out.

Start with `output`, which chooses.
"""
