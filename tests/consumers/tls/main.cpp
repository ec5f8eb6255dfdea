// <mpg/tls.hpp> in two translation units: exit status 0 when a connection to nobody fails as it should.
#include <mpg/runtime.hpp>
#include <mpg/tls.hpp>

#include <iostream>

bool has_roots();

int main() {
    return mpg::run([] {
        const auto config = mpg::tls::config::client({.alpn = {"http/1.1"}});
        if (!config || !has_roots()) return 1;
        const auto stream = mpg::tls::stream::connect("127.0.0.1:1", *config);
        if (stream || stream.error() != std::errc::connection_refused) return 2;
        std::cout << "refused, as it should be\n";
        return 0;
    });
}
