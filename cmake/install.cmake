# The installed package: headers, targets, configuration, version, and the two find modules beside it. It is free of
# absolute paths, so a moved prefix works; and free of the architecture, for it holds headers only.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(mpg_package_dir "${CMAKE_INSTALL_DATADIR}/cmake/mpg")

install(TARGETS mpg EXPORT mpg_targets FILE_SET HEADERS)
install(EXPORT mpg_targets
    NAMESPACE mpg::
    FILE mpg-targets.cmake
    DESTINATION "${mpg_package_dir}")
# A file of its own: it names OpenSSL's target, which only who asks for the component has.
install(TARGETS mpg_tls EXPORT mpg_tls_targets FILE_SET HEADERS)
install(EXPORT mpg_tls_targets
    NAMESPACE mpg::
    FILE mpg-tls-targets.cmake
    DESTINATION "${mpg_package_dir}")

configure_package_config_file(cmake/mpg-config.cmake.in mpg-config.cmake
    INSTALL_DESTINATION "${mpg_package_dir}"
    NO_SET_AND_CHECK_MACRO)
# Below 1.0 a new minor version may break its users.
set(compatibility SameMinorVersion)
if(PROJECT_VERSION_MAJOR GREATER 0)
    set(compatibility SameMajorVersion)
endif()
write_basic_package_version_file(mpg-config-version.cmake
    COMPATIBILITY ${compatibility}
    ARCH_INDEPENDENT)
install(FILES
    "${CMAKE_CURRENT_BINARY_DIR}/mpg-config.cmake"
    "${CMAKE_CURRENT_BINARY_DIR}/mpg-config-version.cmake"
    cmake/Findliburing.cmake
    cmake/Findconcurrentqueue.cmake
    cmake/Findlibdw.cmake
    DESTINATION "${mpg_package_dir}")
# gdb: source <prefix>/share/mpg/gdb/mpg.py
install(FILES tools/gdb/mpg.py DESTINATION "${CMAKE_INSTALL_DATADIR}/mpg/gdb")
