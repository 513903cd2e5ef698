"""Types of the documents that the archive writes into the collections ``objects`` and ``aux``.

They say which fields there are, of what type and unit, for those who write documents. Documents in a database may
lack any of them or hold something else, because users edit them in the Mongo shell and older versions wrote fewer:
read them through :mod:`obsarchive.core.documents`. The paths of nested fields are in
:mod:`obsarchive.core.document_paths`. Times are aware, in UTC, of whole milliseconds, unless they are text.
"""
