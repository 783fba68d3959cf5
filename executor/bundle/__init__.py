# SPDX-License-Identifier: BSD-3-Clause
"""Our programs as files that need nothing but Python on an execution point.

===================  ==========================================================================
module               subject
===================  ==========================================================================
`command`            ``quantum-exec bundle``
`building`           both archives and the record of them, in a directory
`contents`           what goes into an archive: ours, boto3 trimmed to S3, licences
`byte_code`          modules compiled for the Python that builds
`zip_archive`        the same members always give the same bytes
`plugin_start`       ``__main__`` of ``quantum_exec_plugin``
`worker_start`       ``__main__`` of ``worker.pyz``
`bundle_record`      ``bundle.json``: sizes, checksums, the Python that is needed
`submission`         the archive in the datastore, and the lines of a submit file that name it
===================  ==========================================================================

A job carries the plugin, by HTCondor; the plugin brings ``worker.pyz`` from S3 and keeps it for the
next job of the machine (`transfer_plugins.worker_archive`).

Nothing is unpacked: Python imports from the files as they are, and botocore's models are read from
them too (`transfer_plugins.packed_boto3`). Rejected: shiv and pex (they unpack below HOME, which
for a plugin is that of the daemon), unpacked packages in the cache (some hundred files that a task
of the same user could change, and nobody would compare for each job).
"""
