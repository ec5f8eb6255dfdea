// What the tests of TLS share: certificates that are made on the spot.
#pragma once

#include "io_support.hpp"

#include <mpg/tls.hpp>

#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#ifdef MPG_TSAN
/// libcrypto is not compiled for ThreadSanitizer, which therefore does not see the counts by which
/// connections share a session, but does see the free() of the last one to let go of it.
extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() { return "called_from_lib:libcrypto.so\n"; }
#endif

namespace mpg::test {

/// A certificate and its key, as PEM.
struct pem_pair {
    std::string certificate, key;
};

/// An authority, which issues certificates. ECDSA with P-256 unless said otherwise.
class authority {
  public:
    explicit authority(const char* name = "Test Root")
        : key_(make_key(false))
        , certificate_(make(name, "", key_.get(), nullptr, nullptr, -3600, 86400)) {}

    std::string pem() const { return pem_of(certificate_.get()); }
    tls::roots roots() const { return *tls::roots::from_pem(pem()); }

    struct wish {
        std::string names = "DNS:localhost,IP:127.0.0.1"; // subjectAltName
        long valid_from = -3600, valid_to = 86400;        // seconds from now
        bool rsa = false;
    };
    pem_pair issue(const char* name, const wish& w) const {
        const tls::detail::key_ptr key = make_key(w.rsa);
        const auto c =
            make(name, w.names, key.get(), certificate_.get(), key_.get(), w.valid_from, w.valid_to);
        return {pem_of(c.get()), pem_of(key.get())};
    }
    pem_pair issue(const char* name = "localhost") const { return issue(name, wish{}); }

    static tls::certificate load(const pem_pair& p) {
        auto c = tls::certificate::from_pem(p.certificate, p.key);
        EXPECT_TRUE(c) << c.error().message();
        return std::move(*c);
    }

  private:
    static std::string pem_of(X509* c) {
        return tls::detail::written([c](BIO* out) { PEM_write_bio_X509(out, c); });
    }
    static std::string pem_of(EVP_PKEY* k) {
        return tls::detail::written(
            [k](BIO* out) { PEM_write_bio_PrivateKey(out, k, nullptr, nullptr, 0, nullptr, nullptr); });
    }
    static tls::detail::key_ptr make_key(bool rsa) {
        return tls::detail::key_ptr(rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256"));
    }
    static void extend(X509* c, X509* issuer, int what, const char* value) {
        X509V3_CTX ctx;
        X509V3_set_ctx(&ctx, issuer, c, nullptr, nullptr, 0);
        X509_EXTENSION* e = X509V3_EXT_conf_nid(nullptr, &ctx, what, value);
        ASSERT_TRUE(e) << value;
        X509_add_ext(c, e, -1);
        X509_EXTENSION_free(e);
    }
    /// issuer null: signed by itself, as an authority.
    static tls::detail::x509_ptr make(const char* name, const std::string& names, EVP_PKEY* key, X509* issuer,
                                      EVP_PKEY* issuer_key, long from, long to) {
        static std::atomic<long> serial{1};
        tls::detail::x509_ptr c(X509_new());
        X509_set_version(c.get(), X509_VERSION_3);
        ASN1_INTEGER_set(X509_get_serialNumber(c.get()), serial++);
        X509_gmtime_adj(X509_getm_notBefore(c.get()), from);
        X509_gmtime_adj(X509_getm_notAfter(c.get()), to);
        X509_set_pubkey(c.get(), key);
        X509_NAME_add_entry_by_txt(X509_get_subject_name(c.get()), "CN", MBSTRING_UTF8,
                                   reinterpret_cast<const unsigned char*>(name), -1, -1, 0);
        X509_set_issuer_name(c.get(), X509_get_subject_name(issuer ? issuer : c.get()));
        extend(c.get(), issuer ? issuer : c.get(), NID_basic_constraints,
               issuer ? "critical,CA:FALSE" : "critical,CA:TRUE");
        if (!names.empty()) extend(c.get(), issuer, NID_subject_alt_name, names.c_str());
        EXPECT_NE(X509_sign(c.get(), issuer_key ? issuer_key : key, EVP_sha256()), 0);
        return c;
    }

    tls::detail::key_ptr key_;
    tls::detail::x509_ptr certificate_;
};

/// Made once: for the tests that do not care. Any thread may use it.
inline const authority& test_root() {
    static const authority a;
    return a;
}
inline tls::config server_config(tls::server_options o = {}) {
    static const tls::certificate c = authority::load(test_root().issue());
    if (o.certificates.empty() && !o.choose) o.certificates.push_back(c);
    auto made = tls::config::server(std::move(o));
    EXPECT_TRUE(made) << made.error().message();
    return std::move(*made);
}
inline tls::config client_config(tls::client_options o = {}) {
    if (!o.roots && o.verify != tls::verification::none) o.roots = test_root().roots();
    auto made = tls::config::client(std::move(o));
    EXPECT_TRUE(made) << made.error().message();
    return std::move(*made);
}

struct tls_pair {
    tls::stream client, server;
};
/// Connected, without the handshake.
inline tls_pair tls_local(const tls::config& client, const tls::config& server,
                          const char* name = "localhost") {
    tcp_pair p = connect_local();
    return {tls::stream(std::move(p.client), client, name), tls::stream(std::move(p.server), server)};
}
struct handshakes {
    std::error_code client, server;
};
/// Both sides' handshakes.
inline handshakes shake_hands(tls_pair& p) {
    handshakes h;
    auto server = spawn([&] { h.server = p.server.handshake(); });
    h.client = p.client.handshake();
    if (h.client) p.client.close();
    server.join();
    return h;
}

/// A directory with files, removed at the end.
class temporary_files {
  public:
    temporary_files() {
        char name[] = "/tmp/mpg_tls_XXXXXX";
        path_ = ::mkdtemp(name);
    }
    ~temporary_files() { std::filesystem::remove_all(path_); }
    std::string put(const std::string& name, std::string_view content) const {
        const std::string path = path_ + "/" + name;
        std::ofstream(path, std::ios::binary) << content;
        return path;
    }
    const std::string& path() const noexcept { return path_; }

  private:
    std::string path_;
};

} // namespace mpg::test
