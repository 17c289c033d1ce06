// Shows /docs in a browser of sorts, and prints how the locks of two operations look without a key and with one.
const fs = require("fs");
const { Window } = require("happy-dom");

const [page, document, bundle] = process.argv.slice(2).map((file) => fs.readFileSync(file, "utf8"));
const window = new Window({ url: "http://localhost/below/docs" });
window.document.body.innerHTML = '<div id="ui"></div>';
window.fetch = async (url) => ({ ok: true, status: 200, url, headers: new Map(), text: async () => document });
window.eval(bundle);
window.eval(page.match(/<script>([^]*?)<\/script>/)[1].replace("SwaggerUIBundle(", "window.ui = SwaggerUIBundle("));

const label = (id) => window.document.querySelector(`#${id} .authorization__btn`)?.getAttribute("aria-label");
const locks = () => [label("operations-check-check"), label("operations-rules-listRules")];

async function shown(wanted) {
  for (let turn = 0; turn < 200 && !wanted(); turn++) await new Promise((resolve) => setTimeout(resolve, 50));
  return locks();
}

async function show() {
  const before = await shown(() => locks().every(Boolean));
  const ui = window.ui.getSystem();
  const schema = ui.specSelectors.securityDefinitions().get("api_key");
  ui.authActions.authorize({ api_key: { name: "api_key", schema, value: "key" } });
  const after = await shown(() => locks()[1] !== before[1]);
  console.log(JSON.stringify({ before, after }));
  process.exit(0);
}

show();
