"""Words for synthetic pages: labels that applications use, names, things, actions."""


def _words(text: str) -> tuple[str, ...]:
    """Words of a text with blanks between them."""
    return tuple(text.split())


def _lines(text: str) -> tuple[str, ...]:
    """Entries of a text with bars between them; line ends count as blanks."""
    return tuple(" ".join(entry.split()) for entry in text.split("|"))


NAV = _words(
    """
    Dashboard Inbox Calendar Contacts Projects Tasks Reports Analytics Orders Products Customers
    Invoices Payments Billing Settings Profile Team Members Files Photos Videos Music Documents
    Messages Notifications Activity History Overview Home Explore Library Favorites Downloads
    Archive Drafts Sent Spam Trash Support Help Feedback Community Forum Blog News Events Jobs
    Careers Pricing Features Solutions Partners About Contact Security Privacy Terms Status Maps
    Charts Tables Forms Widgets Layouts Pages Icons Typography Components Plugins Themes Users
    Roles Permissions Groups Channels Backups Logs Servers Domains Databases Storage Networks
    Devices Sensors Alerts Schedules Shifts Payroll Expenses Budgets Taxes Stocks Wallet Cards
    Transfers Savings Loans Insurance Shop Cart Checkout Wishlist Deals Coupons Brands Shipping
    Returns Reviews Recipes Workouts Courses Lessons Quizzes Grades Students Teachers Classes
    Patients Doctors Visits Labs Flights Hotels Trips Bookings Tickets Guides Weather
    """
)
ACTIONS = _words(
    """
    Save Cancel Submit Apply Reset Delete Edit Create Add Remove Update Send Reply Forward Print
    Export Import Upload Download Share Copy Paste Undo Redo Search Filter Sort Refresh Next Back
    Previous Finish Continue Confirm Accept Decline Approve Reject Publish Preview Start Stop
    Pause Resume Connect Disconnect Install Subscribe Follow Join Leave Invite Book Buy Pay Order
    Checkout Compose Rename Move Duplicate Merge Split Lock Unlock Enable Disable Run Test Deploy
    Build Scan Sync Restore Retry Login Register Verify Skip Close Open View Compare
    """
)
THINGS = _words(
    """
    account address album alarm answer article audio badge bank batch block board branch budget
    bundle camera campaign case channel chapter chart city client code color column comment
    company contract country course cover customer date deal demo desk device domain door draft
    email engine entry event export family field file filter flight folder form frame game garden
    goal group guest guide hotel house image index invoice item job journal key kitchen label lamp
    layer lead lesson letter level license link list loan location lunch machine market match
    meeting member memo menu message meter model module month movie note number object offer
    office option order owner package page panel paper parcel password path patient payment period
    person phone photo picture pipeline plan plant player playlist pocket point policy port post
    price printer prize product profile project queue question quote rate receipt recipe record
    region release report request review road role room route rule sample scene schedule school
    score screen season seat section sensor server session shape sheet ship shop signal site size
    slide song source space stage station status stock store story street student style subject
    summary survey table tag target task team template term theme ticket time title token topic
    tour town trade trail train travel tree trip truck unit user value vendor version video view
    visit voice volume wall water week wheel window word work year
    """
)
PEOPLE = _words(
    """
    Anna Ben Carla David Elena Felix Grace Hugo Iris Jonas Kate Liam Maya Noah Olga Paul Quinn
    Rosa Sam Tina Umar Vera Will Xenia Yusuf Zoe Alice Boris Clara Diego Emma Frank Gina Henry
    Ines Jack Karen Leo Mona Nina Oscar Petra Ralf Sara Tom Ursula Victor Wendy
    """
)
SURNAMES = _words(
    """
    Adams Baker Clark Davis Evans Fischer Garcia Harris Ito Jones Keller Lopez Meyer Novak Olsen
    Patel Quist Rossi Smith Turner Ueda Vogel Weber Young Zhang Moore Khan Silva Berg Costa
    """
)
ADJECTIVES = _words(
    """
    new old open closed daily weekly monthly private public shared recent urgent local remote
    quick simple smart basic advanced custom default main minor major active idle early late green
    blue red dark bright silent loud warm cold fresh final first last next hidden pinned
    """
)
FIELDS = _lines(
    """
    Name| First name| Last name| Email| Phone| Address| City| Country| Zip code| Company| Job
    title| Password| Username| Website| Date of birth| Start date| End date| Amount| Quantity|
    Price| Discount| Subject| Message| Comment| Title| Description| Tags| Card number| Expiry
    date| Promo code| Department| Language| Time zone| Currency| Gender| Status| Priority|
    Category| Project| Owner| Reference| Street| State| Notes| Search| Keyword| Budget| Deadline|
    Weight| Height| Room| Floor| License plate| Invoice number
    """
)
CHOICES = _lines(
    """
    Remember me| Email alerts| Dark mode| Auto save| Subscribe| I agree to the terms| Keep me
    signed in| Show hidden files| Push notifications| Private account| Gift wrap| Express
    delivery| Pickup| Card| Cash| Monthly| Yearly| Small| Medium| Large| Economy| Business| One
    way| Round trip| Bluetooth| Wi-Fi| Airplane mode| Location| Auto update| Two-factor login|
    Spell check| Line numbers| Word wrap| Send copy to me| Notify team| Public| Draft| Morning|
    Evening| Vegetarian| Read receipts| Sound
    """
)
APP_NAMES = _words(
    """
    Acme Nimbus Orbit Pixel Quanta Ripple Summit Tidal Vertex Zephyr Atlas Beacon Cobalt Delta
    Ember Fjord Granite Harbor Indigo Juniper Krypton Lumen Mosaic Nova Onyx Prism
    """
)
SENTENCES = _lines(
    """
    Your changes are saved automatically.| Three people are working on this now.| Nothing new
    since yesterday.| The next update comes on Monday.| Please check the details below.| We will
    never share your data.| This month looks better than the last.| Choose a plan that fits your
    team.| The order will arrive in two days.| All systems are running.| You can change this at
    any time.| Fill in the form to get started.
    """
)
MENU_BAR = _words(
    """
    File Edit View Insert Format Tools Table Window Help Run Kernel Layer Select Tabs
    """
)
MENU_ITEMS = _lines(
    """
    New File| Open...| Open Recent| Save As...| Save All| Close Tab| Print...| Page Setup| Exit|
    Cut| Copy| Paste| Select All| Find...| Replace...| Zoom In| Zoom Out| Full Screen| Show
    Toolbar| Show Sidebar| Word Count| Spelling| Preferences| Keyboard Shortcuts| Check for
    Updates| About| Insert Image| Insert Table| Comment Line| Go to Line| Fold All| Run Selected|
    Restart| Clear Output| Export PDF| Group| Ungroup| Bring to Front| Send to Back| Rotate Left|
    Flip| Crop| Merge Down| New Layer
    """
)
