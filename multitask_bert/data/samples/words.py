"""The words of the embedded sample corpora: names for `ner`, opinion words and topics for `sentiment`.

Plain tuples; `corpora.py` gives each split its own fifth or three fifths of a tuple (see `share` there), so that no
name and no topic of the test split occurs in training. English and Swahili names are mixed on purpose.
"""

# fmt: off

# Each of these fills any slot: a person, a place, a club, a company, a school, or (in an event's name) no entity.
AMBIGUOUS = (
    "Jordan", "Mwanza", "Chelsea", "Kenyatta", "Tabora", "Lincoln", "Nyerere", "Austin", "Machakos", "Florence",
    "Simba", "Georgia", "Kagera", "Madison", "Azam", "Sydney", "Singida", "Charlotte", "Moi", "Victoria",
    "Lumumba", "Houston", "Mtibwa", "Jackson", "Nakuru", "Washington", "Mandela", "Hamilton", "Lindi", "Wellington",
    "Kimathi", "Darwin", "Coastal", "Nelson", "Morogoro", "Ford", "Nkrumah", "Disney", "Namungo", "Tesla",
    "Odinga", "Brooklyn", "Ruvu", "Carolina", "Kakamega", "Dakota", "Mbeya", "Everton", "Sokoine", "Preston",
    "Bandari", "Clinton", "Geita", "Bristol", "Karume", "Monaco", "Ihefu", "Sharjah", "Mathare", "Bolton",
    "Mwadui", "Santos", "Kariobangi", "Camden", "Shabana", "Lester", "Tembo", "Orlando", "Mkwawa", "Durham",
    "Bukoba", "Vienna", "Dodoma", "Pembroke", "Kitayosce", "Warwick", "Thika", "Selby", "Rukwa", "Ashford",
)

FIRST_NAMES = (
    "Amina", "James", "Juma", "Sarah", "Neema", "Peter", "Baraka", "Helen", "Zawadi", "Daniel", "Halima", "Robert",
    "Rehema", "Alice", "Musa", "Thomas", "Fatuma", "Linda", "Salim", "Karen", "Asha", "George", "Hamisi", "Emma",
    "Zuhura", "David", "Rashid", "Ruth", "Mwajuma", "Henry", "Khadija", "Oliver", "Said", "Martha", "Subira", "Frank",
    "Ramadhani", "Julia", "Upendo", "Simon", "Yusuf", "Laura", "Tatu", "Philip", "Abdallah", "Rachel", "Bahati",
    "Edward", "Mariamu", "Nancy", "Omari", "Walter", "Saida", "Irene", "Shabani", "Victor", "Wanjiku", "Clara",
    "Otieno", "Samuel", "Akinyi", "Monica", "Kamau", "Stephen", "Chausiku", "Diana", "Njoroge", "Arthur", "Mwanaidi",
    "Joyce", "Athumani", "Patrick", "Pendo", "Sophia", "Idrisa", "Leonard", "Tumaini", "Agnes", "Wambui", "Hugo",
)

SURNAMES = (
    "Mwakyusa", "Thompson", "Odhiambo", "Miller", "Kikwete", "Bennett", "Mutua", "Sullivan", "Massawe", "Fletcher",
    "Wanyama", "Harrison", "Mushi", "Brennan", "Kiprop", "Whitaker", "Lyimo", "Donovan", "Cheruiyot", "Peterson",
    "Mwinyi", "Gallagher", "Ochieng", "Robinson", "Kimaro", "Sanders", "Mugabo", "Patterson", "Swai", "Holloway",
    "Njenga", "Cartwright", "Mkapa", "Dawson", "Kibaki", "Ellison", "Shirima", "Goldberg", "Wafula", "Reynolds",
    "Chacha", "Hughes", "Makinda", "Sinclair", "Barasa", "Fitzgerald", "Lowassa", "Murray", "Kiplagat", "Stevens",
    "Mbowe", "Anderson", "Ndugai", "Morrison", "Tarimo", "Kaufman", "Okello", "Griffiths", "Mwaura", "Lindqvist",
    "Membe", "Schneider", "Wekesa", "Johansson", "Malecela", "Pritchard", "Kamwelwe", "Osborne", "Mrema", "Delgado",
)

PLACES = (
    "Nairobi", "London", "Arusha", "Toronto", "Kigoma", "Berlin", "Mombasa", "Oslo", "Iringa", "Lagos", "Dar es Salaam",
    "Manchester", "Moshi", "Accra", "Kampala", "Lisbon", "Tanga", "Boston", "Eldoret", "Cairo", "New York", "Songea",
    "Madrid", "Kigali", "Chicago", "Addis Ababa", "Mtwara", "Dublin", "Lamu", "Helsinki", "Kuala Lumpur", "Garissa",
    "Prague", "Shinyanga", "Denver", "Rio de Janeiro", "Bujumbura", "Munich", "Naivasha", "Osaka", "Bagamoyo",
    "Lusaka", "Seattle", "Zanzibar", "Milan", "Cape Coast", "Njombe", "Glasgow", "Turkana", "Warsaw", "Buenos Aires",
    "Musoma", "Geneva", "Harare", "Portland", "Hong Kong", "Malindi", "Ottawa", "Kitale", "Vancouver", "Sumbawanga",
    "Los Angeles", "Bangkok", "Mpanda", "Dallas", "Kismayu", "San Diego", "Lilongwe", "Bergen", "Kilosa",
)

CLUBS = (
    "Yanga", "Arsenal", "Gor Mahia", "Juventus", "Mbao", "Benfica", "Biashara", "Celtic", "Tusker", "Ajax", "Zamalek",
    "Valencia", "Ulinzi", "Liverpool", "Mashujaa", "Sporting Braga", "Kaizer Chiefs", "Barcelona", "Vipers",
    "Real Betis", "Al Ahly", "Porto", "Villa", "Feyenoord", "Sofapaka", "Inter Miami", "Rayon Sports", "Lazio",
    "Kiyovu", "Napoli",
)

FIRMS = (
    "Safaricom", "Reuters", "Vodacom", "Toyota", "Tanesco", "Nokia", "Kengen", "Netflix", "Airtel", "Unilever",
    "Bakhresa", "Siemens", "Jambojet", "Samsung", "Halotel", "Barclays", "Twiga Foods", "Bloomberg", "Fastjet",
    "General Electric", "Nakumatt", "Spotify", "Metl", "Lufthansa", "Tigo", "Goldman Sachs", "Serengeti Breweries",
    "Maersk", "Uchumi", "Red Cross",
)

# How a bare name, {x}, grows into a longer one. These words occur in every split: the name inside is what is new.
COMPOUNDS: dict[str, dict[str, tuple[str, ...]]] = {
    "en": {
        "LOC": ("North {x}", "South {x}", "Port {x}", "{x} County", "{x} Island", "{x} City", "{x} Heights"),
        "CLUB": ("{x} United", "{x} FC", "{x} Stars", "{x} City", "{x} Rangers", "{x} Young Boys"),
        "FIRM": ("{x} Bank", "Bank of {x}", "{x} Airways", "{x} Sugar Company", "{x} Mining", "{x} Port Authority"),
        "SCHOOL": ("University of {x}", "{x} University", "{x} College", "{x} Secondary School"),
    },
    "sw": {
        "LOC": ("{x} Kusini", "{x} Magharibi", "{x} Mashariki", "{x} Kaskazini", "{x} Vijijini"),
        "CLUB": ("{x} United", "{x} FC", "{x} Stars", "{x} City", "{x} Rangers", "{x} Queens"),
        "FIRM": ("Benki ya {x}", "Kampuni ya {x}", "Hospitali ya {x}", "Taasisi ya {x}", "Mamlaka ya Bandari ya {x}"),
        "SCHOOL": ("Chuo Kikuu cha {x}", "Chuo cha {x}", "Sekondari ya {x}", "Shule ya Msingi {x}"),
    },
}

# Capitalised, but no entity: an event bears a name and is none of our three types.
FILLERS: dict[str, dict[str, tuple[str, ...]]] = {
    "en": {
        "EVENT": ("{x} Cup", "{x} Marathon", "{x} Festival", "{x} Prize"),
        "DAY": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
        "MONTH": ("January", "March", "April", "June", "July", "August", "October", "December"),
        "NUM": ("two", "3", "five", "8", "12", "20", "15", "30"),
    },
    "sw": {
        "EVENT": ("Kombe la {x}", "Tamasha la {x}", "Kongamano la {x}"),
        "DAY": ("Jumatatu", "Jumanne", "Jumatano", "Alhamisi", "Ijumaa", "Jumamosi", "Jumapili"),
        "MONTH": ("Januari", "Machi", "Aprili", "Juni", "Julai", "Agosti", "Oktoba", "Desemba"),
        "NUM": ("3", "5", "8", "10", "12", "20", "15", "30"),
    },
}

# Opinion words by language, part of speech and polarity. Swahili adjectives are in their class 9 form (`nzuri`).
POLAR: dict[str, dict[str, dict[str, tuple[str, ...]]]] = {
    "en": {
        "adjective": {
            "positive": ("good", "great", "lovely", "excellent", "wonderful", "impressive", "pleasant", "superb"),
            "negative": ("bad", "awful", "boring", "terrible", "horrible", "disappointing", "useless", "dreadful"),
        },
        "verb": {
            "positive": ("loved", "enjoyed", "liked", "praised"),
            "negative": ("hated", "disliked", "regretted", "cursed"),
        },
        "noun": {
            "positive": ("a joy", "a success", "a delight", "a treat"),
            "negative": ("a mess", "a failure", "a disaster", "a shame"),
        },
    },
    "sw": {  # with loans such as `boring`, as in everyday East African posts
        "adjective": {
            "positive": ("nzuri", "bora", "ya kuvutia", "ya kupendeza", "perfect", "super", "amazing"),
            "negative": ("mbaya", "mbovu", "ya kukera", "ya kuchosha", "boring", "fake", "useless"),
        },
        "verb": {
            "positive": ("niliipenda", "niliifurahia"),
            "negative": ("niliichukia", "niliilaani"),
        },
        "noun": {
            "positive": ("baraka", "furaha tupu", "success"),
            "negative": ("balaa", "aibu tupu", "disaster"),
        },
    },
}

# After `kitu` (class 7) an adjective agrees: kitu kizuri, kitu cha kuvutia; the others do not change.
CLASS_7 = {"nzuri": "kizuri", "mbaya": "kibaya", "mbovu": "kibovu"}

# What opinions are about; the Swahili topics are all of class 9, so that verbs (i-) and adjectives agree.
TOPICS: dict[str, tuple[str, ...]] = {
    "en": (
        "film", "soup", "hotel", "camera", "concert", "bus ride", "coffee", "lecture", "phone", "novel",
        "service", "pizza", "battery", "garden", "exhibition", "keyboard", "flight", "album", "breakfast",
        "museum", "course", "ferry", "printer", "speech", "market", "tent", "match", "salad", "laptop",
        "wedding", "clinic", "podcast", "beach", "song", "safari", "blanket", "restaurant", "website",
        "school play", "bicycle", "dessert", "apartment", "radio show", "workshop", "cake",
    ),
    "sw": (
        "huduma", "filamu", "simu", "hoteli", "safari", "kamera", "kahawa", "programu", "nyumba", "hotuba",
        "supu", "redio", "baiskeli", "hadithi", "betri", "mechi", "pizza", "semina", "hospitali", "nguo",
        "treni", "picha", "keki", "barabara", "bustani", "juisi", "tovuti", "ndege", "ripoti", "nyama", "meli",
        "zawadi", "chai", "shule", "ngoma", "kompyuta", "kliniki", "sabuni", "riwaya", "ofisi", "kofia",
        "benki", "mboga", "harusi", "kazi",
    ),
}
