"""A stand-in for Fi.V Connect that answers its documented API: for `embedded:`, drills and tests."""
