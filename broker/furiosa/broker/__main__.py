"""python -m furiosa.broker"""

from furiosa.broker.daemon import main

raise SystemExit(main())
