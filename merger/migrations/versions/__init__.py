# SPDX-License-Identifier: BSD-3-Clause
"""One module per revision of the schema."""
