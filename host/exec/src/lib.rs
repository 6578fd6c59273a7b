//! The executors behind RUN and their probe
