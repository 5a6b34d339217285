"""What a network can leave as, a file a format.

Each has `write(model, folder)`, `REQUIREMENTS` of what runs it, and `INPUT`, the order of axes.
"""
