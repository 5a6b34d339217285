"""Programs that are copied beside exported weights; they run without big_ssl.

Each export has predict.py, and as runtime.py the one of its format.
"""
