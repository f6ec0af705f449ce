// Elements of the current page, as seen in the viewport (CSS pixels).
// Called as one function by extract.py; keeps no state between calls, because marks
// left in a single-page app survive its navigation and lend old names to new elements.
(options) => {
  const SELECTOR = [
    "a[href]", "button", "input", "select", "textarea", "summary", "label[for]",
    "[role=button]", "[role=link]", "[role=tab]", "[role=menuitem]", "[role=menuitemcheckbox]",
    "[role=menuitemradio]", "[role=option]", "[role=checkbox]", "[role=radio]", "[role=switch]",
    "[role=textbox]", "[role=searchbox]", "[role=combobox]", "[role=slider]",
    "[role=spinbutton]", "[role=treeitem]", "[onclick]", "[data-toggle]", "[data-bs-toggle]",
    "[tabindex='0']", ".lm-MenuBar-item", ".lm-TabBar-tab", ".lm-Menu-item", "jp-button",
  ].join(",");
  // Toolbars of editors are often bare elements with a tip and a pointing cursor.
  const TIPPED = "[title], [data-tips], se-button, se-flyingbutton";
  const INPUT_ROLES = new Set(["textbox", "searchbox", "combobox", "slider", "spinbutton",
    "checkbox", "radio", "switch"]);
  const GROUPS = [
    ["tabs", "[role=tablist], .nav-tabs, .nav-pills, .lm-TabBar-content"],
    ["toolbar", "[role=toolbar], .toolbar, .btn-toolbar, .btn-group, .jp-Toolbar"],
    ["menu bar", "[role=menubar], .lm-MenuBar-content, .menus, .menu-bar"],
    ["pages", ".pagination"],
    ["path", ".breadcrumb"],
    ["menu", "[role=menu], .dropdown-menu, .lm-Menu-content, .menu-popup"],
    ["menu", "nav, aside, [role=navigation], .sidebar, .main-sidebar, .navbar-nav"],
    ["list", "ul, ol, [role=list], [role=listbox], .list-group"],
  ];
  const ICON_FONT = /icon|awesome|symbols|glyph|nucleo|feather|simple-line|ionic|lineawesome/i;
  const W = window.innerWidth, H = window.innerHeight;
  const clean = (text) => (text || "").replace(/\s+/g, " ").trim();

  function isTarget(el) {
    if (el.matches(SELECTOR)) return true;
    return el.matches(TIPPED) && !el.closest(SELECTOR)
      && (el.tagName.startsWith("SE-") || getComputedStyle(el).cursor === "pointer");
  }
  function* walk(root) {
    for (const el of root.querySelectorAll("*")) {
      if (isTarget(el)) yield el;
      if (el.shadowRoot) yield* walk(el.shadowRoot);
    }
  }
  const parentOf = (el) => el.parentElement || (el.getRootNode() || {}).host || null;

  function rolesOf(el) {
    const given = clean(el.getAttribute("role")).split(" ")[0];
    if (given && !["presentation", "none", "group", "img"].includes(given)) return given;
    const tag = el.tagName.toLowerCase();
    const type = (el.getAttribute("type") || "text").toLowerCase();
    if (tag === "a") return "link";
    if (tag === "button" || tag === "summary" || tag === "jp-button") return "button";
    if (tag === "select") return "combobox";
    if (tag === "textarea") return "textbox";
    if (tag === "label") return "label";
    if (el.matches(".lm-MenuBar-item, .lm-Menu-item")) return "menuitem";
    if (el.matches(".lm-TabBar-tab")) return "tab";
    if (tag === "input") {
      if (["button", "submit", "reset", "image", "file", "color"].includes(type)) return "button";
      if (type === "checkbox") return el.closest(".form-switch, .switch") ? "switch" : "checkbox";
      return { radio: "radio", range: "slider", number: "spinbutton", search: "searchbox" }[type]
        || "textbox";
    }
    if (el.isContentEditable) return "textbox";
    // A clickable row or name without a role does not look like a button.
    return /BUTTON/.test(el.tagName) || el.matches("[data-toggle], [data-bs-toggle]")
      ? "button" : "item";
  }

  function shown(el) {
    return el.checkVisibility
      ? el.checkVisibility({ opacityProperty: true, visibilityProperty: true })
      : el.offsetParent !== null;
  }

  // Text that a person sees: text nodes with real boxes inside the element, without icon
  // fonts, screen-reader-only spans and badges.
  function visibleText(el, box) {
    const parts = [];
    const visit = (node) => {
      if (node.nodeType === 3) {
        if (!clean(node.data)) return;
        const holder = node.parentElement;
        const style = getComputedStyle(holder);
        if (ICON_FONT.test(style.fontFamily) || parseFloat(style.fontSize) < 6) return;
        if (holder !== el && /badge|pill/.test(String(holder.className))) return;
        const range = document.createRange();
        range.selectNodeContents(node);
        const r = range.getBoundingClientRect();
        const inside = r.width > 3 && r.height > 3 && r.left < box.right && r.right > box.left
          && r.top < box.bottom && r.bottom > box.top;
        const hostBox = holder.getBoundingClientRect();
        if (inside && (hostBox.width > 2 || style.display === "contents")) parts.push(node.data);
      } else if (node.nodeType === 1) {
        const tag = node.tagName.toLowerCase();
        if (["script", "style", "svg", "select", "option", "template"].includes(tag)) return;
        if (!shown(node) && getComputedStyle(node).display !== "contents") return;
        const gap = getComputedStyle(node).display === "inline" ? "" : " ";
        parts.push(gap);
        for (const child of (node.shadowRoot || node).childNodes) visit(child);
        parts.push(gap);
      }
    };
    if (!["INPUT", "SELECT", "TEXTAREA"].includes(el.tagName)) {
      for (const child of (el.shadowRoot || el).childNodes) visit(child);
      if (el.shadowRoot) for (const child of el.childNodes) visit(child);
    }
    return clean(parts.join(""));
  }

  function labelElement(el) {
    if (el.labels && el.labels.length) return el.labels[0];
    const wrap = el.closest("label");
    return wrap || null;
  }

  // Accessible name, the short way round: the browser's own computation costs 11-20 ms a call.
  function nameOf(el, text, role) {
    const ids = el.getAttribute("aria-labelledby");
    if (ids) {
      const joined = clean(ids.split(/\s+/).map((id) => {
        const other = el.getRootNode().getElementById && el.getRootNode().getElementById(id);
        return other ? other.textContent : "";
      }).join(" "));
      if (joined) return [joined, "labelledby"];
    }
    const aria = clean(el.getAttribute("aria-label"));
    if (aria) return [aria, "aria"];
    const tag = el.tagName;
    if (tag === "INPUT" && ["submit", "button", "reset"].includes(el.type)) {
      return [clean(el.value) || (el.type === "submit" ? "Submit" : ""), "text"];
    }
    if (["INPUT", "SELECT", "TEXTAREA"].includes(tag)) {
      const label = labelElement(el);
      const own = label ? visibleText(label, label.getBoundingClientRect()) : "";
      if (own) return [own, "label"];
      if (clean(el.placeholder)) return [clean(el.placeholder), "placeholder"];
      if (clean(el.title)) return [clean(el.title), "title"];
      if (tag === "SELECT" && el.selectedOptions[0]) {
        return [clean(el.selectedOptions[0].textContent), "value"];
      }
      return ["", ""];
    }
    if (text) return [text, "text"];
    const img = el.querySelector("img[alt], svg[aria-label], [aria-label]");
    const alt = img ? clean(img.getAttribute("alt") || img.getAttribute("aria-label")) : "";
    if (alt && !/^(icon|image|img|logo)$/i.test(alt)) return [alt, "image"];
    const tip = el.title || el.dataset.tips || el.dataset.originalTitle || el.dataset.bsOriginalTitle
      || (el.querySelector("[title]") || {}).title
      || ((el.querySelector("svg title") || {}).textContent);
    if (clean(tip)) return [clean(tip), "title"];
    const hidden = clean(el.textContent);
    if (hidden && hidden.length < 40 && !ICON_FONT.test(getComputedStyle(el).fontFamily)) {
      const holder = el.querySelector("i, svg");
      if (!holder || !clean(holder.textContent)) return [hidden, "hidden text"];
    }
    return ["", ""];
  }

  function iconOf(el) {
    const found = [];
    for (const node of [el, ...el.querySelectorAll("i, svg, span, use")]) {
      const classes = String((node.className && node.className.baseVal) ?? node.className ?? "");
      const match = classes.match(
        /(?:^|\s)(?:fa|bi|ti|icon|ni|nc-icon nc|tim-icons icon|now-ui-icons|feather|mdi|lni|pe-7s|las? la)-([a-z0-9-]+)/g);
      if (match) for (const m of match) found.push(m.trim().replace(/^.*?-/, ""));
      const data = node.dataset && (node.dataset.icon || node.dataset.lucide || node.dataset.feather);
      if (data) found.push(data);
      const href = node.getAttribute && (node.getAttribute("href") || node.getAttribute("xlink:href"));
      if (node.tagName === "use" && href) found.push(href.replace(/^.*#/, ""));
    }
    return found;
  }

  function clip(el, rect) {
    let [x1, y1, x2, y2] = [rect.left, rect.top, rect.right, rect.bottom];
    let fixed = false;
    for (let node = el; node && node !== document.body; node = parentOf(node)) {
      const style = getComputedStyle(node);
      if (node !== el && !fixed && style.overflow !== "visible" && style.display !== "inline") {
        const r = node.getBoundingClientRect();
        x1 = Math.max(x1, r.left); y1 = Math.max(y1, r.top);
        x2 = Math.min(x2, r.right); y2 = Math.min(y2, r.bottom);
      }
      if (style.position === "fixed") fixed = true;
    }
    return [Math.max(x1, 0), Math.max(y1, 0), Math.min(x2, W), Math.min(y2, H)];
  }

  function deepest(x, y) {
    let hit = document.elementFromPoint(x, y);
    while (hit && hit.shadowRoot) {
      const inner = hit.shadowRoot.elementFromPoint(x, y);
      if (!inner || inner === hit) break;
      hit = inner;
    }
    return hit;
  }
  function owner(node) {
    for (let at = node; at; at = parentOf(at)) if (at.matches && isTarget(at)) return at;
    return null;
  }
  function holds(el, node) {
    for (let at = node; at; at = parentOf(at)) if (at === el) return true;
    return false;
  }

  // Share of the five probe points where the topmost node belongs to the element.
  function hits(el, alias, [x1, y1, x2, y2]) {
    const at = (fx, fy) => {
      const hit = deepest(x1 + (x2 - x1) * fx, y1 + (y2 - y1) * fy);
      if (!hit) return false;
      return [el, ...alias].some((one) => holds(one, hit)) ? hit : false;
    };
    const centre = at(0.5, 0.5);
    const own = centre ? owner(centre) : null;
    const inner = own && own !== el && !alias.includes(own) && holds(el, own)
      && !own.contains(el) ? own : null;
    const others = [[0.15, 0.2], [0.85, 0.2], [0.15, 0.8], [0.85, 0.8]]
      .filter(([fx, fy]) => at(fx, fy)).length;
    let covers = false;
    if (inner) {
      const r = inner.getBoundingClientRect();
      covers = r.width * r.height > 0.5 * (x2 - x1) * (y2 - y1);
    }
    return { centre: Boolean(centre), others, inner: Boolean(inner), covers };
  }

  const groupIds = new Map();
  function groupOf(el) {
    for (let at = parentOf(el); at; at = parentOf(at)) {
      for (const [kind, selector] of GROUPS) {
        if (!at.matches || !at.matches(selector)) continue;
        if (!groupIds.has(at)) groupIds.set(at, groupIds.size);
        let kindNow = kind;
        if (kind === "list" && at.closest("nav, aside, .sidebar, .main-sidebar, [role=navigation]")) {
          kindNow = "menu";
        }
        const full = at.getBoundingClientRect();
        const r = clip(at, full);
        // Items scrolled out of sight make "the first" and "the last" guesses.
        const before = r[0] - full.left > 2 || r[1] - full.top > 2
          || at.scrollTop > 2 || at.scrollLeft > 2;
        const after = full.right - r[2] > 2 || full.bottom - r[3] > 2
          || at.scrollHeight - at.clientHeight - at.scrollTop > 6
          || at.scrollWidth - at.clientWidth - at.scrollLeft > 6;
        return { id: groupIds.get(at), kind: kindNow, box: r, before, after };
      }
    }
    return null;
  }
  function rowOf(el) {
    const row = el.closest("tr, li, .card, .list-group-item, [role=row], .box, .panel");
    if (!row) return "";
    const head = row.querySelector(row.matches("tr, [role=row]")
      ? "th, td" : "h1, h2, h3, h4, h5, h6, .card-title, .box-title");
    if (!head || head.contains(el)) return "";
    return visibleText(head, head.getBoundingClientRect()).slice(0, 80);
  }
  function paint(el) {
    const style = getComputedStyle(el);
    const icon = el.querySelector("i, svg");
    return { text: style.color, fill: style.backgroundColor,
      icon: icon ? getComputedStyle(icon).color : style.color };
  }

  function describe(el) {
    const role = rolesOf(el);
    if (role === "label" || !shown(el) && !["checkbox", "radio", "switch"].includes(role)) return null;
    const tag = el.tagName;
    if (tag === "INPUT" && el.type === "hidden") return null;
    let target = el;
    const alias = [];
    const label = ["INPUT", "SELECT", "TEXTAREA"].includes(tag) ? labelElement(el) : null;
    if (label && ["checkbox", "radio", "switch"].includes(role)) {
      alias.push(label);
      const r = el.getBoundingClientRect();
      if (!shown(el) || r.width < 8 || r.height < 8) target = label;
    }
    const rects = [...target.getClientRects()].filter((r) => r.width > 1 && r.height > 1);
    let rect = target.getBoundingClientRect();
    if (rects.length === 0 || rect.width < 2 || rect.height < 2) return null;
    // A block inside an inline link makes its own boxes useless: take what it shows.
    if (target.children.length && getComputedStyle(target).display === "inline") {
      for (const child of target.children) {
        const r = child.getBoundingClientRect();
        if (!shown(child) || r.width < 2 || r.height < 2) continue;
        const [l, t] = [Math.min(rect.left, r.left), Math.min(rect.top, r.top)];
        rect = new DOMRect(l, t, Math.max(rect.right, r.right) - l, Math.max(rect.bottom, r.bottom) - t);
      }
    }
    const sum = rects.reduce((total, r) => total + r.width * r.height, 0);
    const box = clip(target, rect);
    if (box[2] <= box[0] || box[3] <= box[1]) return null;
    const area = rect.width * rect.height;
    const text = visibleText(el, rect);
    const [name, source] = nameOf(el, text, role);
    const group = groupOf(el);
    return {
      box, role, text, name, source,
      fraction: (box[2] - box[0]) * (box[3] - box[1]) / area,
      wrapped: rects.length > 1 && sum < 0.7 * area,
      hits: hits(target, target === el ? alias : [el, ...alias], box),
      input: (INPUT_ROLES.has(role) && !(role === "radio" && tag === "BUTTON")) || ["SELECT", "TEXTAREA"].includes(tag),
      disabled: Boolean(el.disabled) || el.getAttribute("aria-disabled") === "true",
      icons: iconOf(el), picture: Boolean(el.querySelector("img, video, canvas")),
      row: rowOf(el), group, colours: paint(el),
      href: tag === "A" ? el.href : "",
    };
  }

  const out = [];
  for (const el of walk(document)) {
    const found = describe(el);
    if (found) out.push(found);
    if (out.length >= options.limit) break;
  }
  const page = document.scrollingElement || document.documentElement;
  return { elements: out, scroll: [page.scrollLeft, page.scrollTop],
    height: page.scrollHeight, title: document.title };
}
