"""Where studies are kept: opening a storage, and what a run reads and writes there.

url.py       what a storage URL means: SQLite, PostgreSQL, MySQL, a journal of Optuna's
opening.py   opens each well
sqlite.py    what an SQLite file needs beside
errors.py    what a database says when it fails, and whether waiting may help
tables.py    Optuna's tables, written in batches
read_only.py a look at a study without its weight
leases/      who works on a study
"""

from search.storage.errors import database_errors
from search.storage.opening import has_studies, open_storage
from search.storage.url import Place, database_path, place_of, shown_url

__all__ = ["Place", "database_errors", "database_path", "has_studies", "open_storage", "place_of", "shown_url"]
