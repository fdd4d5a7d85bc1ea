// Asks a DNS server with c-ares and with the system's getaddrinfo; prints what came, as JSON.
//   node node.js SERVER:PORT
const dns = require("dns");
const resolver = new dns.promises.Resolver({timeout: 2000, tries: 2});
resolver.setServers([process.argv[2]]);

const asked = {
  a: () => resolver.resolve4("api.mesh.internal"),
  aaaa: () => resolver.resolve6("api.mesh.internal"),
  mixedCase: () => resolver.resolve4("ApI.MeSh.InTeRnAl"),
  onlyA: () => resolver.resolve4("only.deep.mesh.internal"),
  onlyAasAaaa: () => resolver.resolve6("only.deep.mesh.internal"),
  emptyNonTerminal: () => resolver.resolve4("deep.mesh.internal"),
  missing: () => resolver.resolve4("none.mesh.internal"),
  srv: async () => (await resolver.resolveSrv("_http._tcp.api.mesh.internal"))
    .sort((x, y) => x.priority - y.priority).map((each) => `${each.name}:${each.port}`),
  lookup: async () => (await dns.promises.lookup("only.deep.mesh.internal", {all: true}))
    .map((each) => each.address),
  lookupOrder: async () =>
    (await dns.promises.lookup("api.mesh.internal", {all: true, family: 4, verbatim: true}))
      .map((each) => each.address),
};

(async () => {
  const found = {};
  for (const [name, ask] of Object.entries(asked)) {
    found[name] = await ask().catch((error) => error.code);
  }
  console.log(JSON.stringify(found));
})();
