"""The demo: small models trained on scikit-learn's handwritten digits, each with the loss of a YAML file.

Every module in `tasks/` is one task; `tasks/classification.py` reads `../classification.yaml`, and so on. A further
task is a further module and its YAML file.
"""
