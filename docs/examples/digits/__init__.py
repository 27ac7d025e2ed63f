"""The demo: small models trained on scikit-learn's handwritten digits, each with the losses of a YAML file.

Every module in `tasks/` is one task; `tasks/detection.py` reads `../detection.yaml`, and so on. In a file `loss` is the
loss that is shown in detail, `title` its name in tables, and `beside` the losses to compare it with, of which the first
is the baseline. A further task is a further module and its YAML file; a further loss is a further line under `beside`.
"""
