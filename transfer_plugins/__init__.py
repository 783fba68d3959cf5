# SPDX-License-Identifier: BSD-3-Clause
"""Moving objects between a datastore and a sandbox, and the HTCondor protocol around it.

Runs alone on a worker: only the standard library, boto3, and the part of `registry` that needs
nothing else. The same functions are called by the plugin (a process of HTCondor's), by
``quantum-exec run`` and ``run-local`` (in-process), and by ``registry-merge`` (reading deltas).

=====================  ========================================================================
module                 subject
=====================  ========================================================================
`object_store`         the seam: list, get, put, download, upload; ``file://`` datastores
`arriving_file`        files that are being written, and are no objects yet
`file_walk`            the files of a directory, in the order in which S3 lists keys
`s3_object_store`      the same over S3, with boto3
`packed_boto3`         sessions of boto3, also from the archive of a bundle
`s3_bulk_reading`      the same, for tens of thousands of small objects; only for the merger
`checksums`            SHA-256 of files
`concurrency`          many transfers at once
`credential_source`    where boto3 found the credentials of a datastore
`database_token`       RDS IAM tokens for the central registry: boto3 without an object
`deltas`               the attempt of a quantum that counts, from a listing
`stage_in`             inputs of a job into a sandbox; makes the attempt id and, before anything
                       else, an empty stage-out list
`stage_in_cluster`     the same for a job with several quanta, each object fetched once
`local_copy`           a dataset copied from one sandbox to another
`commit_links`         presigned URLs, with which a stopped wrapper uploads by itself
`stage_out`            files of a stage-out list into the datastore, the delta last
`stage_out_cluster`    the same for a job with several quanta, each with a delta of its own
`job_files`            a job or cluster file and its datastore, from its URI
`worker_archive`       the programs of a worker, from a cache of the machine or from S3
`classads`             reading and writing the ClassAds of the plugin protocol
`plugin_protocol`      what HTCondor and the plugin say to each other
`htcondor_plugin`      the plugin: ``-classad``, and ``-infile -outfile [-upload]``
=====================  ========================================================================

boto3 is imported when the first S3 object is touched, never by ``-classad``; obstore by the
reading process of a merge alone.
"""
