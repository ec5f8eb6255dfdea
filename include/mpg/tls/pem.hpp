// Reading PEM files and texts.
#pragma once

#include <mpg/io/file.hpp>
#include <mpg/io/result.hpp>
#include <mpg/tls/error.hpp>
#include <mpg/tls/handles.hpp>

#include <openssl/pem.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mpg::tls::detail {

/// All of a file. Suspends the task only. Anything above 16 MiB is no certificate: errno's file_too_large.
inline result<std::string> read_file(std::string_view path) {
    auto f = file::open(path);
    if (!f) return unexpected(f.error());
    std::string all;
    std::byte piece[4096];
    for (;;) {
        const auto n = f->read(piece);
        if (!n) return unexpected(n.error());
        if (*n == 0) return all;
        all.append(reinterpret_cast<const char*>(piece), *n);
        if (all.size() > (16u << 20)) return unexpected(std::make_error_code(std::errc::file_too_large));
    }
}

/// To read from.
inline bio_ptr bio_over(std::string_view text) {
    bio_ptr b(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
    if (!b) throw std::bad_alloc();
    return b;
}

/// Never asks the terminal, as OpenSSL does when there is no callback.
inline int give_password(char* to, int room, int, void* password) noexcept {
    const std::string_view p = *static_cast<const std::string_view*>(password);
    const std::size_t n = std::min(p.size(), static_cast<std::size_t>(room));
    std::memcpy(to, p.data(), n);
    return static_cast<int>(n);
}

/// Certificates of a text, in their order; other blocks are passed over. At least one.
inline result<std::vector<x509_ptr>> parse_certificates(std::string_view pem) {
    ERR_clear_error();
    const bio_ptr in = bio_over(pem);
    std::vector<x509_ptr> all;
    std::string_view none;
    while (x509_ptr c{PEM_read_bio_X509(in.get(), nullptr, give_password, &none)})
        all.push_back(std::move(c));
    const unsigned long e = ERR_peek_last_error();
    const bool at_end = ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE;
    if (all.empty() || !at_end) return unexpected(take_error());
    ERR_clear_error();
    return all;
}

inline result<key_ptr> parse_key(std::string_view pem, std::string_view password) {
    ERR_clear_error();
    const bio_ptr in = bio_over(pem);
    key_ptr k(PEM_read_bio_PrivateKey(in.get(), nullptr, give_password, &password));
    if (!k) return unexpected(take_error());
    return k;
}

/// What an OpenSSL function writes into a BIO.
template <class Write> std::string written(Write write) {
    const bio_ptr out(BIO_new(BIO_s_mem()));
    if (!out) throw std::bad_alloc();
    write(out.get());
    char* text = nullptr;
    const long n = BIO_get_mem_data(out.get(), &text);
    return {text, static_cast<std::size_t>(n)};
}

} // namespace mpg::tls::detail
