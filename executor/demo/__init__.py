# SPDX-License-Identifier: BSD-3-Clause
"""A survey of real pixels and a pipeline over it, as an example to copy.

The sky is an image of the globular cluster M13 that the astropy wheel carries. A simulated camera
takes twelve dithered exposures of it; the pipeline has to find the sky again, knowing nothing but
frames, headers and a catalogue of known stars::

    raw ─ isr ─► postisr ─ characterize ─► sources ─ calibrate ─► calibration
                    └──────────────── warp ◄──────────────────────────┘
    warps of a patch ─ coadd ─► coadd ─ measure ─► patch_catalog, coadd_png
    all patches ─ assemble ─► mosaic, catalog, comparison with the original image

What a user would copy are `tasks`, which show the repo object, and `graph`, which shows a graph.

======================  =======================================================================
module                  subject
======================  =======================================================================
`tasks`                 the seven tasks: inputs, outputs, metrics; run on a worker
`graph`                 the graph file: 67 quanta, dataset types, dimension records
`survey`                the exposures, calibration frames and reference catalogue, in a store
`camera`                what the detector does to the light; only `survey` may know
`original_image`        M13 in the astropy wheel
`command`               ``quantum-exec demo``: everything above from start to end
`services`              the S3 server and the PostgreSQL that it starts
`report`                how the agreement with the original image is told
`instrument_signature`  counts to electrons: bias, flat, gain, variance, cosmic rays
`detection`             level of the sky, peaks
`photometry`            places, fluxes and widths of stars
`calibration`           zero point and pointing error against the reference catalogue
`resampling`            images moved by a fraction of a pixel
`coaddition`            warps, and their weighted mean
`comparison`            the survey's stars against those of the original image
`picture`               PNG
`projection`            pixels to sky, as in FITS headers
`patches`               how the sky is divided
`star_list`             stars as arrays, JSON, FITS table
======================  =======================================================================

numpy and ``astropy.io.fits`` are all that the tasks import, the latter only where FITS is read or
written: it takes longer than any task computes. Rejected: ``astropy.wcs``, ``astropy.table`` and
matplotlib, each of which would double the time of a quantum.

Outputs are the same bytes on every machine: nothing writes a date or the name of a release, sums
are made in a fixed order, pictures are not compressed, and numbers are rounded when stored.
"""
