"""python -m furiosa.exporter"""

from furiosa.exporter.main import main

raise SystemExit(main())
