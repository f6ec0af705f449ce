// Draws the objects of ROWS with WebGL 2; all canvases turn together.
const SCALE = 0.6 / 32767;
const VERTEX = `#version 300 es
in vec3 point; in vec3 colour; uniform mat4 view; uniform vec2 lens; out vec3 seen; out vec3 shade;
void main() {
  vec4 p = view * vec4(point * ${SCALE}, 1.0);
  seen = p.xyz; shade = colour;
  gl_Position = vec4(lens.x * p.x, lens.x * p.y, -p.z * lens.y - 0.2, -p.z);
}`;
const FRAGMENT = `#version 300 es
precision highp float; in vec3 seen; in vec3 shade; out vec4 colour;
void main() {
  vec3 normal = normalize(cross(dFdx(seen), dFdy(seen)));
  float light = 0.35 + 0.65 * abs(dot(normal, normalize(-seen)));
  colour = vec4(shade * light, 1.0);
}`;
const camera = { azimuth: 0.6, elevation: 0.35, radius: 2.0 };

function bytes(text) {
  const raw = atob(text), out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return out.buffer;
}

function program(gl) {
  const made = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(made, shader);
  }
  gl.linkProgram(made);
  return made;
}

// Columns of the world-to-camera matrix: z is up, azimuth 0 looks along +y.
function viewMatrix() {
  const { azimuth: a, elevation: e, radius: r } = camera;
  const right = [Math.cos(a), Math.sin(a), 0];
  const back = [Math.sin(a) * Math.cos(e), -Math.cos(a) * Math.cos(e), Math.sin(e)];
  const up = [back[1] * right[2] - back[2] * right[1], back[2] * right[0] - back[0] * right[2],
    back[0] * right[1] - back[1] * right[0]];
  const m = [];
  for (let i = 0; i < 3; i++) m.push(right[i], up[i], back[i], 0);
  return new Float32Array([...m, 0, 0, -r, 1]);
}

function scene(object) {
  const figure = document.createElement("figure"), canvas = document.createElement("canvas");
  const caption = document.createElement("figcaption");
  const count = object.faces.length;
  caption.textContent = object.label + (count ? "" : " (empty)");
  figure.append(canvas, caption);
  const gl = canvas.getContext("webgl2", { antialias: true, alpha: true });
  if (!gl) { caption.textContent = "this browser has no WebGL 2"; return { figure, draw() {} }; }
  const shader = program(gl);
  const fill = (name, data, type, size, normalised) => {
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
    const place = gl.getAttribLocation(shader, name);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, size, type, normalised, 0, 0);
  };
  fill("point", new Int16Array(bytes(object.points)), gl.SHORT, 3, false);
  fill("colour", new Uint8Array(bytes(object.colours)), gl.UNSIGNED_BYTE, 3, true);
  const faces = new Uint32Array(bytes(object.faces));
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, faces, gl.STATIC_DRAW);
  gl.enable(gl.DEPTH_TEST);
  return {
    figure,
    draw() {
      const side = Math.round(canvas.clientWidth * devicePixelRatio);
      if (canvas.width !== side) canvas.width = canvas.height = side;
      gl.viewport(0, 0, side, side);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
      gl.useProgram(shader);
      gl.uniformMatrix4fv(gl.getUniformLocation(shader, "view"), false, viewMatrix());
      const focal = 1 / Math.tan(20 * Math.PI / 180);
      gl.uniform2f(gl.getUniformLocation(shader, "lens"), focal, 1.0);
      gl.drawElements(gl.TRIANGLES, faces.length, gl.UNSIGNED_INT, 0);
    },
  };
}

let scenes = [];
function draw() { for (const one of scenes) one.draw(); }
function show(row) {
  scenes = ROWS[row].objects.map(scene);
  document.getElementById("stage").replaceChildren(...scenes.map((one) => one.figure));
  draw();
}
const stage = document.getElementById("stage");
stage.addEventListener("pointermove", (event) => {
  if (!event.buttons) return;
  camera.azimuth -= event.movementX / 120;
  camera.elevation = Math.max(-1.5, Math.min(1.5, camera.elevation + event.movementY / 120));
  draw();
});
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  camera.radius = Math.max(1, Math.min(6, camera.radius * Math.exp(event.deltaY / 800)));
  draw();
}, { passive: false });
document.getElementById("row").addEventListener("change", (event) => show(+event.target.value));
addEventListener("resize", draw);
show(0);
