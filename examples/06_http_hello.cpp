// HTTP: patterns, a request's body, a response in pieces, and an end on Ctrl-C.
//
//   curl localhost:8081/hello/world
//   curl -d 'some text' localhost:8081/shout
//   curl -N localhost:8081/count
#include <mpg/http.hpp>
#include <mpg/mpg.hpp>
#include <mpg/signal.hpp>

#include <cctype>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <string>

using namespace std::chrono_literals;
using mpg::http::request;
using mpg::http::response;

int main() {
    return mpg::run([] {
        mpg::http::server server;

        server.handle("GET /hello/{name}", [](request& req, response& res) {
            res.header("Content-Type", "text/plain; charset=utf-8");
            (void)res.write("Hello, " + req.path_value("name") + "!\n");
        });

        server.handle("POST /shout", [](request& req, response& res) {
            auto text = req.body().read_all(1 << 20); // at most 1 MiB
            if (!text) {
                (void)res.status(400).write(text.error().message() + "\n");
                return;
            }
            for (char& c : *text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
            (void)res.write(*text);
        });

        // Streams: each flush sends a chunk. It ends early when the client goes away.
        server.handle("GET /count", [](request& req, response& res) {
            for (int i = 1; i <= 10 && !req.ctx().is_done(); ++i) {
                (void)res.write(std::to_string(i) + "\n");
                if (res.flush()) return;
                mpg::sleep_for(300ms);
            }
        });

        const auto interrupted = mpg::notify({SIGINT, SIGTERM});
        auto ending = mpg::spawn([&] {
            interrupted.recv();
            return server.shutdown(mpg::with_timeout(mpg::context::background(), 3s));
        });
        std::printf("http://localhost:8081/hello/world\n");
        const std::error_code why = server.listen_and_serve(":8081");
        if (why != mpg::errc::server_closed) {
            std::fprintf(stderr, "%s\n", why.message().c_str());
            return 1;
        }
        return ending.join() ? 1 : 0; // serve() returns at once; the last requests end with shutdown()
    });
}
