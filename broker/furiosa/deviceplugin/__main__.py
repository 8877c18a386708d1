"""python -m furiosa.deviceplugin"""

from furiosa.deviceplugin.main import main

raise SystemExit(main())
