// HTTPS: a server whose certificate is read again at SIGHUP, without losing a connection.
//
//   openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=localhost
//       -addext subjectAltName=DNS:localhost -keyout key.pem -out chain.pem      (one line)
//   07_https_hello chain.pem key.pem
//   curl --cacert chain.pem https://localhost:8443/
#include <mpg/http.hpp>
#include <mpg/mpg.hpp>
#include <mpg/signal.hpp>
#include <mpg/tls.hpp>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <string>

namespace tls = mpg::tls;

namespace {

int fail(const char* what, std::error_code why) {
    std::fprintf(stderr, "%s: %s\n", what, why.message().c_str());
    return 1;
}

int serve(const char* chain, const char* key) {
    auto source = tls::certificate_source::from_files(chain, key);
    if (!source) return fail("certificate", source.error());
    const auto config = tls::config::server({.certificates = {*source}, .alpn = {"http/1.1"}});
    if (!config) return fail("configuration", config.error());
    auto listener = tls::listener::bind(":8443", *config);
    if (!listener) return fail("listen", listener.error());

    mpg::http::server server({.read_header_timeout = std::chrono::seconds(5)}); // for the handshake, too
    server.handle("GET /", [](mpg::http::request& req, mpg::http::response& res) {
        const tls::connection_state* state = tls::state_of(req);
        (void)res.write("Hello over " + state->cipher + (state->resumed ? ", again\n" : "\n"));
    });

    mpg::go([source = *source, hang_up = mpg::notify({SIGHUP})]() mutable {
        while (hang_up.recv()) {
            const std::error_code e = source.reload(); // what was there stays when it fails
            std::printf("reload: %s\n", e ? e.message().c_str() : "done");
        }
    });
    auto ending = mpg::spawn([&, interrupted = mpg::notify({SIGINT, SIGTERM})] {
        interrupted.recv();
        return server.shutdown(mpg::with_timeout(mpg::context::background(), std::chrono::seconds(3)));
    });
    std::printf("https://localhost:8443/\n");
    const std::error_code why = server.serve(*listener);
    if (why != mpg::errc::server_closed) return fail("serve", why);
    return ending.join() ? 1 : 0;
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 3) {
        std::fprintf(stderr, "usage: %s CHAIN.pem KEY.pem\n", argv[0]);
        return 2;
    }
    return mpg::run([argv] { return serve(argv[1], argv[2]); });
}
