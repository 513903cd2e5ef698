"""Parameters of a catalogue."""

from typing import Any

from surveys.catalog_files import WHITE_DWARFS_SERVICE
from surveys.formats.catalog_columns import KNOWN
from surveys.parameters import Parameters


class ParsCatalog(Parameters):
    """Parameters of a catalogue."""

    default_cfg_key = "catalog"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        add = self.add_par
        self.default = add("default", None, (None, str), "WD: white dwarfs of Gaia EDR3; test: synthetic sources")
        self.filename = add("filename", None, (None, str), "a FITS, text, HDF5, VOTable or parquet file")
        self.table = add(
            "table",
            None,
            (None, str, int),
            "number or name of the table in the file, if it has several",
            critical=False,
        )
        self.where = add("where", None, (None, str), "expression that selects rows, such as: mag < 16 and dec > 0")
        self.test_size = add("test_size", 10, int, "sources of the test catalogue", least=0)
        for what in KNOWN:
            setattr(self, f"{what}_column", add(f"{what}_column", None, (None, str), f"column with {what}"))
        self.alias_column = add("alias_column", None, (None, str, list), "column or columns with other names")
        self.preferred_mag = add("preferred_mag", None, (None, str), "Gaia_G, Gaia_BP, Gaia_RP, or a column")
        self.epoch = add(
            "epoch", None, (None, float), "Julian year of the coordinates; None: from the catalogue", unit="yr"
        )
        self.service = add(
            "service", WHITE_DWARFS_SERVICE, str, "where the default catalogue comes from", critical=False
        )
