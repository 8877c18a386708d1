"""python -m furiosa.featurediscovery"""

from furiosa.featurediscovery.main import main

raise SystemExit(main())
