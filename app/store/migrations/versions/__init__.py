"""The steps, in the order of their ``down_revision``. What is released is never changed: a change is another step.

A step only adds what older versions do not miss, so that workers of both run during an upgrade.
"""
