// An HTTP server that answers a small JSON document. Argument: port.
const http = require("http");
const rows = Array.from({ length: 20 }, (_, i) => ({ id: i, name: "row " + i, even: i % 2 === 0 }));
http
  .createServer((request, response) => {
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ url: request.url, rows }));
  })
  .listen(Number(process.argv[2]), "127.0.0.1");
