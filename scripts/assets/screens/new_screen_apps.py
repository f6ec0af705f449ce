"""The applications of assets/new_screens: the embedded model meets them first in RL."""

from scripts.assets.screens.screen_app import FONT_AWESOME, FONT_AWESOME_6, App, jsdelivr

NEW_APPS: tuple[App, ...] = (
    App(
        "adminlte4",
        "admin-lte@4.0.0-rc3",
        "MIT",
        ("dist/*.html", "dist/*/*.html"),
        skip=("icons", "layout-rtl", "license"),
        states={"": (), "menu": ("[data-lte-toggle=sidebar]",)},
        redirects=jsdelivr(
            "bootstrap@5.3.7",
            "@popperjs/core@2.11.8",
            "overlayscrollbars@2.11.0",
            "bootstrap-icons@1.13.1",
            "@fontsource/source-sans-3@5.0.12",
            "apexcharts@3.37.1",
        ),
        settle_ms=500,
    ),
    App(
        "sb-admin",
        "startbootstrap-sb-admin@7.0.7",
        "MIT",
        ("dist/*.html",),
        states={
            "": (),
            "menu": ("#sidebarToggle",),
            "user": ("#navbarDropdown",),
        },
        redirects=(
            FONT_AWESOME_6,
            ("Chart.js/2.8.0/Chart.min.js", "chart.js@2.8.0", "dist/Chart.min.js"),
            *jsdelivr("bootstrap@5.2.3", "simple-datatables@7.1.2"),
        ),
        settle_ms=500,
    ),
    App(
        "modern-business",
        "startbootstrap-modern-business@5.0.7",
        "MIT",
        ("dist/*.html",),
        states={"": (), "menu": (".navbar-toggler",)},
        redirects=jsdelivr("bootstrap@5.2.3", "bootstrap-icons@1.5.0"),
    ),
    App(
        "black-dashboard",
        "black-dashboard@1.0.0",
        "MIT",
        ("examples/*.html",),
        skip=("icons", "map", "rtl"),
        states={"": (), "menu": (".navbar-toggle button",)},
        redirects=FONT_AWESOME,
    ),
)
