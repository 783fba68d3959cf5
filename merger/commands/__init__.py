# SPDX-License-Identifier: BSD-3-Clause
"""The commands of ``registry-merge``, a module for each group; imports of weight inside functions.

======================  =======================================================================
module                  commands
======================  =======================================================================
`options`               arguments and options that several commands have
`session`               opening registry and datastore, reports, errors, exit codes
`schema_commands`       ``init``, ``migrate``
`merge_command`         ``merge``
`verify_command`        ``verify``
`conflict_commands`     ``conflicts list | show | settle``
`quarantine_commands`   ``quarantine list | retry | drop``
`forget_command`        ``forget``
`sweep_command`         ``sweep``
`archive_command`       ``archive``
`import_command`        ``import``
`ingest_commands`       ``ingest-files``, ``ingest-dimensions``
`collection_commands`   ``collections list | chain | show``
`doctor_command`        ``doctor``
`requests_command`      ``requests``
======================  =======================================================================

Each module has a function ``add_to``, which `merger.cli` calls with the application.
"""
