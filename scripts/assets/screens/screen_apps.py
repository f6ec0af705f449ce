"""The applications behind the embedded screens: packages, pages, states, licences."""

from scripts.assets.screens.screen_app import DESKTOP, FONT_AWESOME, MOBILE, SB_ADMIN_2, WEB, WINDOWS, App

_QUILL = """<!doctype html><html><head><meta charset=utf-8>
<link rel=stylesheet href=dist/quill.snow.css></head>
<body style="margin:0"><div id=e style="height:280px"><h2>Meeting notes</h2>
<p>Agenda for <a href="#">the next review</a>.</p></div><script src=dist/quill.js></script><script>
new Quill('#e',{theme:'snow',modules:{toolbar:[[{header:[1,2,false]},{font:[]},{size:[]}],
['bold','italic','underline','strike'],['blockquote','code-block','link','image','video'],
[{list:'ordered'},{list:'bullet'},{list:'check'}],[{indent:'-1'},{indent:'+1'}],
[{color:[]},{background:[]},{align:[]}],['clean']]}});</script></body></html>"""
_SCEDITOR = """<!doctype html><html><head><meta charset=utf-8>
<link rel=stylesheet href=minified/themes/default.min.css></head><body style="margin:0">
<textarea id=e style="width:490px;height:340px">Dear team, see the plan.</textarea>
<script src=minified/sceditor.min.js></script><script src=minified/formats/bbcode.js></script>
<script>
sceditor.create(document.getElementById('e'),{format:'bbcode',emoticonsEnabled:false,
style:'minified/themes/content/default.min.css'});</script></body></html>"""
_GRAPES = """<!doctype html><html><head><meta charset=utf-8>
<link rel=stylesheet href=dist/css/grapes.min.css></head>
<body style="margin:0"><div id=g><h1>Welcome</h1>
<p>Text of the page</p><a href="#">Read more</a></div>
<script src=dist/grapes.min.js></script><script>
const g=grapesjs.init({container:'#g',fromElement:true,height:'100vh',storageManager:false});
['Text','Image','Video','Map','Section','Column','Quote','Link','Button','Form'].forEach((n)=>
 g.BlockManager.add(n,{label:n,content:'<div>'+n+'</div>',category:'Basic'}));
</script></body></html>"""
_SWAGGER = """<!doctype html><html><head><meta charset=utf-8>
<link rel=stylesheet href=swagger-ui.css></head>
<body style="margin:0"><div id=s></div><script src=swagger-ui-bundle.js></script>
<script>SwaggerUIBundle({spec:%s,dom_id:'#s',docExpansion:'list'});</script></body></html>"""
_SPEC_PATHS = {
    "pets": "Find pets by status",
    "pets/{petId}": "Find one pet",
    "orders": "Place an order",
    "orders/{id}": "Cancel an order",
    "users": "Create a user",
    "users/login": "Log a user in",
    "users/logout": "Log a user out",
    "stores": "List the stores",
    "invoices": "Send an invoice",
}


def _spec() -> str:
    import json

    paths = {}
    for i, (path, text) in enumerate(_SPEC_PATHS.items()):
        verb = ("get", "post", "delete", "put")[i % 4]
        paths[f"/{path}"] = {
            verb: {
                "summary": text,
                "tags": [path.split("/")[0]],
                "responses": {"200": {"description": "ok"}},
            }
        }
    info = {
        "title": "Pet shop",
        "version": "1.2",
        "license": {"name": "Apache 2.0"},
        "contact": {"name": "Contact the developer", "url": "/"},
    }
    return json.dumps({"openapi": "3.0.3", "info": info, "paths": paths})


APPS: tuple[App, ...] = (
    App(
        "gentelella",
        "gentelella@4.2.0",
        "MIT",
        ("production/*.html",),
        dark="document.documentElement.setAttribute('data-theme','dark')",
        states={"": (), "menu": ("[aria-label='Open menu']",)},
        skip=("icons", "echarts", "map"),
        root="dist",
    ),
    App(
        "adminlte",
        "admin-lte@3.2.0",
        "MIT",
        ("*.html", "pages/*.html", "pages/*/*.html", "pages/*/*/*.html"),
        dark="document.body.classList.add('dark-mode')",
        states={"": (), "menu": ("[data-widget=pushmenu]",)},
        redirects=(("/plugins/", SB_ADMIN_2, "vendor/"),),
        css=".preloader{display:none!important}",
        skip=("icons", "iframe", "kanban", "summernote", "codemirror"),
    ),
    App(
        "soft-ui",
        "soft-ui-dashboard@1.0.1",
        "MIT",
        ("pages/*.html",),
        skip=("rtl",),
        states={"": (), "menu": ("#iconNavbarSidenav",)},
    ),
    App(
        "argon-design",
        "argon-design-system-free@1.2.0",
        "MIT",
        ("index.html", "examples/*.html"),
        scrolls=6,
        redirects=FONT_AWESOME,
    ),
    App(
        "argon-dashboard",
        "@creative-tim-official/argon-dashboard-free@1.2.0",
        "MIT",
        ("examples/*.html",),
        redirects=FONT_AWESOME,
    ),
    App(
        "now-ui",
        "now-ui-dashboard@1.0.1",
        "MIT",
        ("examples/*.html",),
        skip=("icons", "map"),
        redirects=FONT_AWESOME,
        states={"": (), "menu": (".navbar-toggler, .navbar-toggle button",)},
    ),
    App(
        "paper",
        "paper-dashboard@1.1.0",
        "MIT",
        ("*.html",),
        skip=("icons", "maps"),
        redirects=FONT_AWESOME,
    ),
    App("freelancer", "startbootstrap-freelancer@7.0.7", "MIT", ("dist/*.html",), scrolls=8),
    App("resume", "startbootstrap-resume@7.0.6", "MIT", ("dist/*.html",), scrolls=8),
    App(
        "mobile-angular",
        "mobile-angular-ui@1.3.4",
        "MIT",
        tuple(
            f"demo/index.html#/{p}"
            for p in (
                "",
                "scroll",
                "toggle",
                "tabs",
                "accordion",
                "overlay",
                "forms",
                "dropdown",
                "touch",
                "swipe",
                "drag",
                "carousel",
            )
        ),
        viewports=(("mobile", MOBILE),),
        settle_ms=500,
        redirects=(
            ("angularjs/1.5.6/angular.min.js", "angular@1.5.8", "angular.min.js"),
            ("angularjs/1.5.6/angular-route.min.js", "angular-route@1.5.8", "angular-route.min.js"),
            *FONT_AWESOME,
        ),
        states={"": (), "menu": ("[ui-toggle=uiSidebarLeft]",)},
    ),
    App(
        "swagger",
        "swagger-ui-dist@5.35.0",
        "Apache-2.0",
        ("_host.html",),
        scrolls=8,
        host_page=_SWAGGER % _spec(),
        settle_ms=800,
        states={"": (), "open": (".opblock-summary-control >> nth=0",)},
        viewports=(("web", WEB), ("mobile", MOBILE)),
    ),
    App(
        "98css",
        "98.css@0.1.21",
        "MIT",
        ("dist/index.html",),
        viewports=(("desktop", DESKTOP),),
        scrolls=24,
    ),
    App(
        "xpcss",
        "xp.css@0.3.0",
        "MIT",
        ("dist/index.html",),
        viewports=(("desktop", DESKTOP),),
        scrolls=24,
    ),
    App(
        "svgedit",
        "svgedit@7.4.1",
        "MIT AND Apache-2.0 AND ISC",
        ("dist/editor/index.html",),
        viewports=(),
        windows=WINDOWS,
        settle_ms=2000,
        states={"": ("#storage_ok",), "menu": ("#storage_ok", "#main_button")},
    ),
    App(
        "luckysheet",
        "luckysheet@2.1.13",
        "MIT",
        ("dist/index.html",),
        viewports=(),
        windows=WINDOWS,
        settle_ms=2500,
    ),
    App(
        "pdfjs",
        "pdfjs-dist-viewer-min@3.11.174",
        "Apache-2.0",
        ("build/minified/web/viewer.html",),
        viewports=(("desktop", DESKTOP),),
        windows=WINDOWS,
        settle_ms=1500,
        states={
            "": (),
            "side": ("#sidebarToggle",),
            "find": ("#viewFind",),
            "tools": ("#secondaryToolbarToggle",),
        },
    ),
    App(
        "quill",
        "quill@2.0.3",
        "BSD-3-Clause",
        ("_host.html",),
        viewports=(("desktop", DESKTOP),),
        host_page=_QUILL,
        scrolls=1,
        states={
            "": (),
            "header": (".ql-header .ql-picker-label",),
            "font": (".ql-font .ql-picker-label",),
            "size": (".ql-size .ql-picker-label",),
        },
    ),
    App(
        "sceditor",
        "sceditor@3.2.1",
        "MIT",
        ("_host.html",),
        viewports=(("desktop", DESKTOP),),
        host_page=_SCEDITOR,
        scrolls=1,
        states={
            "": (),
            "font": (".sceditor-button-font",),
            "size": (".sceditor-button-size",),
            "link": (".sceditor-button-link",),
            "table": (".sceditor-button-table",),
            "image": (".sceditor-button-image",),
            "youtube": (".sceditor-button-youtube",),
        },
    ),
    App(
        "grapesjs",
        "grapesjs@0.23.6",
        "BSD-3-Clause",
        ("_host.html",),
        viewports=(("desktop", DESKTOP),),
        redirects=FONT_AWESOME,
        windows=((1008, 728),),
        host_page=_GRAPES,
        settle_ms=800,
        scrolls=1,
        states={
            "": (),
            "blocks": ("[title='Open Blocks']",),
            "layers": ("[title='Open Layer Manager']",),
        },
    ),
    App(
        "sb-admin-2",
        SB_ADMIN_2,
        "MIT",
        ("*.html",),
        unseen=True,
        states={
            "": (),
            "menu": ("#sidebarToggleTop",),
            "alerts": ("#alertsDropdown",),
            "user": ("#userDropdown",),
            "messages": ("#messagesDropdown",),
        },
    ),
)

JUPYTER_LICENCE = "BSD-3-Clause"
JUPYTER_PACKAGE = "jupyterlab==4.6.6"
JUPYTER_STATES: dict[str, tuple[str, ...]] = {
    "launcher": (),
    **{
        m.lower(): (f".lm-MenuBar-item:has-text('{m}')",)
        for m in ("File", "Edit", "View", "Run", "Kernel", "Tabs", "Settings", "Help")
    },
    "running": ("[title^='Running Terminals']",),
    "toc": ("[title^='Table of Contents']",),
    "extensions": ("[title^='Extension Manager']",),
    "inspector": ("[title^='Property Inspector']",),
}
