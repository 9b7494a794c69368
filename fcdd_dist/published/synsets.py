"""The classes of Table 5 and their ids of WordNet, by which ILSVRC2012 names its folders."""

SYNSETS = {
    "Acorn": "n12267677", "Airliner": "n02690373", "Ambulance": "n02701002", "American alligator": "n01698640",
    "Banjo": "n02787622", "Barn": "n02793495", "Bikini": "n02837789", "Digital clock": "n03196217",
    "Dragonfly": "n02268443", "Dumbbell": "n03255030", "Forklift": "n03384352", "Goblet": "n03443371",
    "Grand piano": "n03452741", "Hotdog": "n07697537", "Hourglass": "n03544143", "Manhole cover": "n03717622",
    "Mosque": "n03788195", "Nail": "n03804744", "Parking meter": "n03891332", "Pillow": "n03938244",
    "Revolver": "n04086273", "Rotary dial telephone": "n03187595", "Schooner": "n04147183", "Snowmobile": "n04252077",
    "Soccer ball": "n04254680", "Stingray": "n01498041", "Strawberry": "n07745940", "Tank": "n04389033",
    "Toaster": "n04442312", "Volcano": "n09472597"}
