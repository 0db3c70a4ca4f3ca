"""What only a real driver and controller can show. Outside of the guest there is nothing here to run.

Each test says with ``@pytest.mark.feature(NAME)`` what it is about, and with ``since=(6, 2)`` from which Linux on that can be
had; on older kernels it is not run. docs/kernels.md is written from the outcomes.
"""
