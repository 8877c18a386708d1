"""python -m furiosa.dra"""

from furiosa.dra.main import main

raise SystemExit(main())
