"""What common icons mean: class names of icon fonts to names, names to instructions."""

import re

# canonical name: (icon class names without prefix, what a person would ask for)
MEANINGS: dict[str, tuple[str, tuple[str, ...]]] = {
    "search": (
        "search magnifier magnifying-glass zoom zoom-split",
        ("search", "look something up"),
    ),
    "menu": (
        "bars menu list hamburger menu-2 align-left align-justify navicon layout-sidebar",
        ("open the menu", "show the navigation"),
    ),
    "close": ("times close x xmark x-lg remove simple-remove", ("close this", "dismiss this")),
    "settings": (
        "cog cogs gear gears settings wrench sliders settings-gear-65 tools adjustments",
        ("open the settings", "change the preferences"),
    ),
    "notifications": (
        "bell notifications alarm bell-55 bell-ringing",
        ("show notifications", "see the alerts"),
    ),
    "messages": (
        "envelope mail email inbox comments comment chat message messages email-85 chat-dots",
        ("read messages", "open the messages"),
    ),
    "home": ("home house shop", ("go home", "go to the start page")),
    "profile": (
        "user person account people single-02 user-circle person-circle circle-08",
        ("open the profile", "go to my account"),
    ),
    "users": ("users people-fill group", ("see the people", "show the users")),
    "delete": (
        "trash delete bin trash-can remove-circle eraser",
        ("delete this", "throw this away"),
    ),
    "edit": ("edit pencil pen pencil-alt pen-to-square pencil-square ruler-pencil", ("edit this",)),
    "add": (
        "plus add plus-lg plus-circle square-plus plus-square",
        ("add something", "add a new one"),
    ),
    "collapse": ("minus dash minimize window-minimize compress", ("collapse this", "shrink this")),
    "expand": (
        "expand maximize fullscreen expand-arrows-alt arrows-fullscreen arrows-maximize",
        ("go full screen", "make it larger"),
    ),
    "refresh": (
        "sync refresh redo-alt sync-alt arrow-clockwise rotate reload",
        ("refresh", "reload"),
    ),
    "download": ("download cloud-download file-download", ("download this", "save it to disk")),
    "upload": ("upload cloud-upload", ("upload a file",)),
    "print": ("print printer", ("print this",)),
    "save": ("save floppy device-floppy floppy-disk", ("save this", "save the changes")),
    "share": ("share share-alt share-nodes", ("share this",)),
    "like": (
        "heart thumbs-up hand-thumbs-up favorite thumb-up",
        ("like this", "add to favourites"),
    ),
    "star": ("star star-half", ("mark with a star", "add a star")),
    "bookmark": ("bookmark bookmarks", ("bookmark this",)),
    "calendar": ("calendar calendar-alt calendar-grid-58 calendar-event", ("open the calendar",)),
    "cart": ("shopping-cart cart basket shopping-bag bag bag-16 cart-simple", ("open the cart",)),
    "camera": ("camera photo", ("take a photo", "open the camera")),
    "image": ("image images picture", ("add an image", "show the picture")),
    "attach": ("paperclip attach attachment", ("attach a file", "add an attachment")),
    "link": ("link chain link-45deg", ("add a link", "copy the link")),
    "copy": ("copy clone clipboard files", ("copy this",)),
    "cut": ("cut scissors", ("cut the selection",)),
    "paste": ("paste clipboard-plus", ("paste",)),
    "undo": ("undo arrow-counterclockwise arrow-back-up", ("undo the last step",)),
    "redo": ("redo arrow-forward-up", ("redo the step",)),
    "play": ("play play-fill player-play", ("play", "start playing")),
    "pause": ("pause player-pause", ("pause",)),
    "stop": ("stop player-stop", ("stop",)),
    "next": (
        "step-forward skip-end player-track-next chevron-right arrow-right angle-right",
        ("go to the next one",),
    ),
    "previous": (
        "step-backward skip-start player-track-prev chevron-left arrow-left angle-left",
        ("go back one",),
    ),
    "reply": ("reply arrow-back", ("reply",)),
    "send": ("paper-plane send", ("send this", "send the message")),
    "filter": ("filter funnel", ("filter the list",)),
    "sort": ("sort sort-down sort-up arrows-sort", ("sort the list",)),
    "help": ("question-circle question help circle-question info-circle info", ("get help",)),
    "log out": (
        "sign-out sign-out-alt logout box-arrow-right power-off power power-button",
        ("log out", "sign out"),
    ),
    "log in": ("sign-in sign-in-alt login box-arrow-in-right", ("log in", "sign in")),
    "lock": ("lock lock-fill", ("lock this",)),
    "more options": (
        "ellipsis-v ellipsis-h ellipsis three-dots three-dots-vertical dots dots-vertical",
        ("show more options",),
    ),
    "grid view": (
        "th th-large grid grid-3x3 grid-3x3-gap layout-grid apps",
        ("show as a grid", "see all apps"),
    ),
    "dark mode": ("moon moon-stars", ("switch to dark mode",)),
    "light mode": ("sun brightness", ("switch to light mode",)),
    "language": ("globe language translate world", ("change the language",)),
    "location": (
        "map-marker map-marker-alt geo-alt map-pin location pin map",
        ("show the location", "open the map"),
    ),
    "phone": ("phone phone-alt telephone mobile", ("call", "make a call")),
    "video": ("video camera-video film", ("start a video",)),
    "microphone": ("microphone mic", ("record sound", "speak")),
    "volume": ("volume volume-up volume-high speaker", ("change the volume",)),
    "bold": ("bold type-bold", ("make it bold",)),
    "italic": ("italic type-italic", ("make it italic",)),
    "underline": ("underline type-underline", ("underline the text",)),
    "list view": ("list-ul list-ol list-task", ("show as a list",)),
    "folder": ("folder folder-open", ("open the folder",)),
    "file": ("file file-alt file-text document", ("open the file",)),
    "chart": (
        "chart-bar chart-pie chart-line bar-chart graph-up chart-area chart-bar-32",
        ("see the chart",),
    ),
    "payment": ("credit-card wallet", ("pay by card",)),
    "show password": ("eye view visibility", ("show what is hidden", "view this")),
    "facebook": ("facebook facebook-f facebook-square", ("go to Facebook",)),
    "twitter": ("twitter twitter-x", ("go to Twitter",)),
    "google": ("google google-plus google-plus-g", ("go to Google",)),
    "instagram": ("instagram", ("go to Instagram",)),
    "github": ("github", ("go to GitHub",)),
    "linkedin": ("linkedin linkedin-in", ("go to LinkedIn",)),
    "youtube": ("youtube", ("go to YouTube",)),
    "dribbble": ("dribbble", ("go to Dribbble",)),
    "pinterest": ("pinterest", ("go to Pinterest",)),
}

_BY_CLASS = {name: canon for canon, (names, _) in MEANINGS.items() for name in names.split()}
# Other words for the same thing, as accessible names use them.
_BY_NAME = {
    "toggle navigation": "menu", "toggle sidebar": "menu", "open menu": "menu",
    "notification": "notifications", "alerts": "notifications", "mail": "messages",
    "account": "profile", "user": "profile", "remove": "delete", "trash": "delete",
    "new": "add", "create": "add", "fullscreen": "expand", "preferences": "settings",
    "reload": "refresh", "options": "more options", "more": "more options", "apps": "grid view",
    "favorite": "like", "favourite": "like", "toggle theme": "dark mode", "dismiss": "close",
    "unstar": "star", "shopping cart": "cart", "basket": "cart", "sign out": "log out",
    "logout": "log out",
}  # fmt: skip
_SUFFIX = re.compile(r"-(?:fill|filled|outline|o|alt|solid|circle|square|line|rounded|sharp)$")
# Size and spin classes of icon fonts are not icons.
_NOISE = re.compile(r"^(?:lg|fw|sm|xs|xl|\d+x|spin|pulse|stack.*|inverse|rotate-\d+|li|ul|\d+)$")


def icon_meaning(classes: list[str]) -> str:
    """The canonical name of the first known icon class ('' = none known)."""
    for name in classes:
        if _NOISE.match(name):
            continue
        for form in (name, _SUFFIX.sub("", name)):
            if form in _BY_CLASS:
                return _BY_CLASS[form]
    return ""


def canonical(name: str, classes: list[str]) -> str:
    """The canonical icon name behind an accessible name, else behind its icon classes."""
    key = name.lower().strip()
    if key in MEANINGS:
        return key
    if key in _BY_NAME:
        return _BY_NAME[key]
    return "" if key else icon_meaning(classes)


def phrases(name: str, classes: list[str]) -> tuple[str, ...]:
    """What a person would ask for to have this icon clicked; () if not known."""
    found = canonical(name, classes)
    return MEANINGS[found][1] if found else ()
