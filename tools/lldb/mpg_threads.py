# What lldb loads as an operating system plug-in; mpg.py, beside this file, sees to it. A file of its own, since lldb would
# run that one's initialisation again.
from mpg import OperatingSystemPlugIn  # noqa: F401
